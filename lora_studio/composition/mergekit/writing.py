"""From a recipe to a mergekit YAML, with what it cannot carry said at its head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from lora_studio.composition.mergekit.names import TWINS, WRITTEN, Twin
from lora_studio.composition.mergekit.weights import write_weight
from lora_studio.composition.method import METHODS
from lora_studio.composition.recipe import Recipe
from lora_studio.errors import InvalidRequest


def write_mergekit(recipe: Recipe, places: Mapping[str, str]) -> str:
    """The YAML; comments say what is lost.

    Args:
        places: adapter id -> folder or Hub id of the adapter as PEFT has it.

    Raises:
        InvalidRequest: a method that mergekit does not have, or an image model's recipe.
    """
    if recipe.modality != "text":
        raise InvalidRequest("mergekit merges language models; this composition is for pictures.")
    params = METHODS.get(recipe.method).checked(recipe.params)
    name, twin = _twin(recipe.method, params)
    base = recipe.base.get("repo", "")
    own = {p: params[p] for p in twin.params}
    by, scale = _strength(recipe, params, twin)
    models = [
        {
            "model": f"{base}+{places[s.id]}",
            "parameters": {"weight": write_weight(s.weight / by, s.module_weights), **own},
        }
        for s in recipe.active
    ]
    shared: dict[str, Any] = {"normalize": twin.elects}
    if scale != 1.0:
        shared["lambda"] = scale
    if twin.ours in ("dare_delta", "della_delta"):
        shared["random_seed"] = recipe.seed
    data = {
        "merge_method": name,
        "base_model": base,
        "models": models,
        "parameters": shared,
        "dtype": "float32",
    }
    text = yaml.safe_dump({k: v for k, v in data.items() if v}, sort_keys=False, width=100)
    return "".join(f"# {line}\n" for line in _losses(recipe, params, twin)) + text


def _strength(recipe: Recipe, params: Mapping[str, Any], twin: Twin) -> tuple[float, float]:
    """What the weights are divided by, and the strength of the whole.

    Under an election of signs equal weights cancel in mergekit's division, and are strength here.
    """
    scale, sizes = float(params.get("scale", 1.0)), [abs(s.weight) for s in recipe.active]
    if params.get("mean"):
        return sum(sizes), scale
    if twin.elects and len(set(sizes)) == 1:
        return sizes[0], scale * sizes[0]
    return 1.0, scale


def _twin(method: str, params: Mapping[str, Any]) -> tuple[str, Twin]:
    if method in WRITTEN:
        return WRITTEN[method], TWINS[WRITTEN[method]]
    for name, twin in TWINS.items():
        fits = all(params.get(key) == value for key, value in twin.fixed)
        if twin.ours == method and fits and name != "linear":
            return name, twin
    known = sorted({*WRITTEN, *(twin.ours for twin in TWINS.values())})
    raise InvalidRequest(
        f"{METHODS.get(method).title} has no counterpart in mergekit. There is one for: "
        f"{', '.join(known)}."
    )


def _losses(recipe: Recipe, params: Mapping[str, Any], twin: Twin) -> list[str]:
    lines = [
        "A composition of LoRA Studio for mergekit, which merges the adapters into whole models.",
        f"The recipe, which rebuilds the adapter itself: {recipe.id}",
    ]
    if twin.note:
        lines.append(twin.note)
    if recipe.method == "svd" or params.get("rank") or params.get("budget", "fixed") != "fixed":
        lines.append("Not carried: the rank of the result. mergekit's model is the uncut sum.")
    if params.get("auto_scale"):
        lines.append("Not carried: the strength chosen on sample prompts.")
    if any(s.units for s in recipe.active):
        lines.append("Not carried: the choice of rank units; adapters take part whole.")
    if any(isinstance(v, tuple) for s in recipe.active for v in s.module_weights.values()):
        lines.append(
            "Gradients go over the model's layers; here they go up to the adapter's last layer."
        )
    if twin.elects and len({abs(s.weight) for s in recipe.active}) > 1:
        lines.append("mergekit divides by the weights of those that agree, here by their number.")
    return lines
