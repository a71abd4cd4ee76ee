"""From a mergekit YAML over adapters ("base+adapter") to a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_studio.composition.mergekit.names import DEFAULTS, TWINS, Twin
from lora_studio.composition.mergekit.weights import Setting, read_weight
from lora_studio.composition.method import METHODS
from lora_studio.composition.recipe import MAX_SOURCES, Recipe, Source
from lora_studio.errors import InvalidRequest

IGNORED = ("tokenizer_source", "tokenizer", "chat_template", "dtype", "out_dtype", "name")
KNOWN = ("models", "merge_method", "base_model", "parameters", "slices", "modules", *IGNORED)
GLOBAL = ("normalize", "rescale", "int8_mask", "lambda", "weight", "random_seed", *DEFAULTS)

_ID = re.compile(r"(?:^|[-_/])([0-9a-f]{8,64})/?$")


@dataclass(frozen=True)
class Imported:
    """A recipe and what should be said of how it was read. Sources whose file name does not end
    with an id are named by their path; `about` has it as "file" and its last part as "title"."""

    recipe: Recipe
    notes: tuple[str, ...]


def is_mergekit(data: Any) -> bool:
    """Whether a YAML's content is meant for mergekit."""
    return isinstance(data, Mapping) and "merge_method" in data


def read_mergekit(data: Any) -> Imported:
    """Reads the content of a mergekit YAML.

    Raises:
        InvalidRequest: the method, parameter or form that has no counterpart here, by name.
    """
    if not is_mergekit(data):
        raise InvalidRequest("This is no mergekit YAML: it has no merge_method.")
    for name in ("slices", "modules"):
        if data.get(name):
            raise InvalidRequest(f"'{name}' takes models apart; write 'models' with adapters.")
    if strange := sorted(map(str, data.keys() - set(KNOWN))):
        raise InvalidRequest(f"'{strange[0][:80]}' of a mergekit YAML is not known here.")
    twin = _twin(data["merge_method"])
    shared = _parameters(data.get("parameters"))
    bases, entries = _entries(data)
    notes = [note for note in [twin.note] if note]
    if left := [name for name in IGNORED if data.get(name)]:
        notes.append(f"Not needed for adapters and left out: {', '.join(left)}.")
    sources = [_source(path, own, shared, notes) for path, own in entries]
    sources = _normalised(sources, twin, shared, str(data["merge_method"]), notes)
    params = _params(twin, shared, [own for _, own in entries])
    METHODS.get(twin.ours).checked(params)
    seed = shared.get("random_seed", 0)
    seed = seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else 0
    recipe = Recipe({"repo": bases}, tuple(sources), twin.ours, params, seed)
    return Imported(Recipe.from_dict(recipe.to_dict()), tuple(dict.fromkeys(notes)))


def _twin(name: Any) -> Twin:
    if not isinstance(name, str) or name not in TWINS:
        raise InvalidRequest(
            f"mergekit's {str(name)[:80]!r} has no counterpart for adapters here. There is: "
            f"{', '.join(TWINS)}."
        )
    return TWINS[name]


def _parameters(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise InvalidRequest("parameters of a mergekit YAML are an object.")
    found = {str(k): v for k, v in data.items()}
    if strange := sorted(found.keys() - set(GLOBAL)):
        raise InvalidRequest(f"The parameter '{strange[0][:80]}' has no counterpart here.")
    return found


def _entries(data: Mapping[str, Any]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """The base model and (adapter's path, its parameters)."""
    models = data.get("models")
    if not isinstance(models, list) or not 1 <= len(models) <= MAX_SOURCES + 1:
        raise InvalidRequest(f"'models' of a mergekit YAML is a list of 1 to {MAX_SOURCES}.")
    found, bases = [], set()
    if data.get("base_model"):
        base, adapter = _reference(data["base_model"])
        if adapter:
            raise InvalidRequest("base_model has an adapter on it; here the base is a model alone.")
        bases.add(base)
    for entry in models:
        if not isinstance(entry, Mapping) or "model" not in entry:
            raise InvalidRequest("Every entry of 'models' has a 'model'.")
        base, adapter = _reference(entry["model"])
        bases.add(base)
        if adapter:
            found.append((adapter, _parameters(entry.get("parameters"))))
        elif base != str(data.get("base_model")):
            raise InvalidRequest(
                f"'{base[:80]}' is a whole model. Here adapters are merged: write it as "
                "'base+adapter', or extract a LoRA from it first."
            )
    if len(bases) > 1:
        raise InvalidRequest(
            f"The adapters lie on different base models ({', '.join(sorted(bases))[:200]}); "
            "adapters of one base model are merged here."
        )
    if not found:
        raise InvalidRequest("No entry of 'models' has an adapter ('base+adapter').")
    return bases.pop(), found


def _reference(value: Any) -> tuple[str, str]:
    """(model, adapter) of "model+adapter" or of mergekit's form with {model: {path}, lora: ...}."""
    if isinstance(value, Mapping):
        parts = [value.get("model"), value.get("lora") or ""]
        texts = [p.get("path") if isinstance(p, Mapping) else p for p in parts]
    else:
        model, _, adapter = value.partition("+") if isinstance(value, str) else ("", "", "")
        texts = [model, adapter]
    if not all(isinstance(t, str) and len(t) <= 500 for t in texts) or not texts[0]:
        raise InvalidRequest("A model of a mergekit YAML is text such as 'base+adapter'.")
    return str(texts[0]).strip(), str(texts[1]).strip()


def _source(path: str, own: dict[str, Any], shared: dict[str, Any], notes: list[str]) -> Source:
    settings: list[Setting] = [p["weight"] for p in (own, shared) if "weight" in p]
    weight, modules = read_weight(settings, notes)
    match = _ID.search(path)
    about = {"title": path.rstrip("/").rsplit("/", 1)[-1], "file": path}
    name = match[1] if match else path
    return Source(name, weight, module_weights=modules, about=about)


def _normalised(
    sources: list[Source], twin: Twin, shared: dict[str, Any], name: str, notes: list[str]
) -> list[Source]:
    """The weights under mergekit's `normalize`."""
    normalize = bool(shared.get("normalize", twin.normalizes))
    if bool(shared.get("rescale", twin.rescales)) != twin.rescales:
        raise InvalidRequest(f"{name} has no counterpart here with rescale other than its default.")
    weights = [s.weight for s in sources]
    if twin.elects:
        if not normalize:
            raise InvalidRequest(
                f"{name} with normalize: false adds updates that agree in sign, and here they are "
                "averaged. Set normalize: true under parameters."
            )
        if any(s.module_weights for s in sources) or len({abs(w) for w in weights}) > 1:
            notes.append(
                "mergekit divides by the weights of those that agree, here by their number; under "
                "unequal weights the two differ."
            )
            return sources
        return [_at(s, 1.0 if s.weight >= 0 else -1.0) for s in sources]
    if not normalize:
        if name == "linear":
            raise InvalidRequest("linear with normalize: false would scale the base model too.")
        return sources
    total = sum(weights)
    if any(s.module_weights for s in sources):
        raise InvalidRequest(
            f"{name} with normalize: true and weights by layer has no counterpart here. Set "
            "normalize: false, with weights that add up to 1 in each layer."
            if name != "linear"
            else "linear divides by the sum of the weights in each layer, which is not done here. "
            "Use task_arithmetic, with weights that add up to 1 in each layer."
        )
    if abs(total) < 1e-8:
        raise InvalidRequest(f"The weights of {name} add up to 0, and it divides by their sum.")
    return [_at(s, s.weight / total) for s in sources]


def _at(source: Source, weight: float) -> Source:
    return Source(source.id, weight, module_weights=source.module_weights, about=source.about)


def _params(twin: Twin, shared: dict[str, Any], own: list[dict[str, Any]]) -> dict[str, Any]:
    found = dict(twin.fixed)
    for name in DEFAULTS:
        given = [p.get(name, shared.get(name)) for p in own]
        said = [value for value in given if value is not None]
        if name not in twin.params:
            if said:
                raise InvalidRequest(f"This method has no '{name}' here; leave it out.")
            continue
        values = {DEFAULTS[name] if v is None else _number(v, name) for v in given}
        if len(values) > 1:
            raise InvalidRequest(f"'{name}' differs between the models; here it is one number.")
        found[name] = values.pop()
    if "lambda" in shared:
        found["scale"] = _number(shared["lambda"], "lambda")
    return found


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"'{name}' is {str(value)[:80]}; here it is one number for all.")
    return float(value)
