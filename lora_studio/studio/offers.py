"""In which forms a composition can be taken away, and why not in the others."""

from __future__ import annotations

from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Recipe
from lora_studio.composition.mergekit import write_mergekit
from lora_studio.errors import LoraStudioError
from lora_studio.formats import EXPORTS
from lora_studio.studio.model_card import slug, vllm_problem, vllm_rank

_ABOUT = {
    "peft": ("PEFT zip", "Weights, configuration, card, recipe and a picture of the rank units"),
    "diffusers": ("diffusers", "One file for load_lora_weights"),
    "kohya": ("ComfyUI, A1111", "One file with kohya's names"),
}
_FOR_PICTURES = "only adapters of image models are written so"


def offers(recipe: Recipe, adapter: Adapter | None) -> dict[str, Any]:
    """{files: [{format, title, about, why}], vllm: {rank, why} or None}.

    `why` says why there is no such file; "" where there is. `vllm` is told of text adapters.

    Args:
        adapter: what the recipe made; None of a plan that is carried out at run time.
    """
    files = [_adapter_file(name, recipe, adapter) for name in EXPORTS.names()]
    if adapter is None:
        runs = recipe.modality == "text" and not METHODS.get(recipe.method).in_model
        title = "Runnable zip" if runs else "Sources zip"
        files.append(_file("routed", title, "The sources, the recipe and how to run them"))
    files.append(_file("recipe", "recipe.yaml", "Opens this composition again"))
    why = _no_mergekit(recipe)
    files.append(_file("mergekit", "mergekit YAML", "For mergekit-yaml, beside the PEFT zips", why))
    return {"files": files, "vllm": _vllm(adapter)}


def mergekit_text(recipe: Recipe, titles: dict[str, str]) -> str:
    """The mergekit YAML, with adapters as the folders that their downloads unpack to.

    Raises:
        InvalidRequest: it cannot be said there.
    """
    return write_mergekit(recipe, _places(recipe, titles))


def _places(recipe: Recipe, titles: dict[str, str]) -> dict[str, str]:
    return {s.id: f"./{slug(titles.get(s.id, ''), 'adapter')}-{s.id[:8]}" for s in recipe.sources}


def _adapter_file(name: str, recipe: Recipe, adapter: Adapter | None) -> dict[str, str]:
    title, about = _ABOUT.get(name, (name, ""))
    why = ""
    if adapter is None:
        why = f"{METHODS.get(recipe.method).title} makes no adapter: it is carried out at run time"
    elif name != "peft" and adapter.modality != "image":
        why = _FOR_PICTURES
    return _file(name, title, about, why)


def _file(name: str, title: str, about: str, why: str = "") -> dict[str, str]:
    return {"format": name, "title": title, "about": about, "why": why}


def _no_mergekit(recipe: Recipe) -> str:
    try:
        write_mergekit(recipe, _places(recipe, {}))
    except LoraStudioError as error:
        return str(error)
    return ""


def _vllm(adapter: Adapter | None) -> dict[str, Any] | None:
    if adapter is None or adapter.modality != "text":
        return None
    why = vllm_problem(adapter)
    return {"rank": None if why else vllm_rank(adapter), "why": why}
