"""A recipe: the serialisable request to compose. Its id hashes the request only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lora_studio.composition.module_weights import Weight, checked_weights, plain_weights
from lora_studio.composition.region import checked_region
from lora_studio.errors import InvalidRequest

SCHEMA = 1
MAX_SOURCES = 64
MAX_DEPTH = 32
SOURCE_FIELDS = ("id", "weight", "enabled", "units", "module_weights", "region")
RECIPE_FIELDS = ("schema", "id", "base", "modality", "sources", "compose", "retrieval", "notes")


@dataclass(frozen=True)
class Source:
    """One adapter in a recipe.

    Args:
        id: adapter id.
        weight: any finite number; zero and `enabled=False` both leave it out.
        units: module -> {"include": [indices]} or {"exclude": [indices]} of rank units.
        module_weights: module, dotted beginning of its name ("unet.down_blocks.0") or part of it
            ("*mlp*"; "*" is every module) -> factor on top of `weight`, or a tuple of them as a
            gradient over the layers; see `module_weights.module_factors`.
        region: where in the picture it acts: {"box": [x0, y0, x1, y1]} in shares of its width and
            height, {"mask": base64 of a PNG, white = acts}, or {} for everywhere; "prompt" beside
            them is what is asked for there instead of the picture's prompt.
        about: what else the file says of the source (title, license, trigger_words, repo, ...);
            kept, and no part of the request.
    """

    id: str
    weight: float = 1.0
    enabled: bool = True
    units: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict)
    module_weights: Mapping[str, Weight] = field(default_factory=dict)
    region: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What to compose, how, and under which seed.

    Args:
        base: {"repo": name of the base model}.
        sources: adapters in the order they were chosen.
        method, params, seed: a registered method and its parameters.
        retrieval: how the sources were found (query, embedder, top_k, scores), or None.
        notes: free text.
        about: what else the file says (created, tool, result, evaluation, and fields of later
            versions); kept, and no part of the request.
    """

    base: Mapping[str, str]
    sources: tuple[Source, ...]
    method: str = "preset"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    modality: str = "text"
    retrieval: Mapping[str, Any] | None = None
    notes: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """sha256 of the request: base, modality, sources, method, parameters and seed."""
        request = {
            "schema": SCHEMA,
            "base": dict(self.base),
            "modality": self.modality,
            "sources": [_request(source) for source in self.sources],
            "compose": self._compose(),
        }
        text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def active(self) -> tuple[Source, ...]:
        """Sources that take part."""
        return tuple(s for s in self.sources if s.enabled and s.weight != 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, schema 1."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "base": dict(self.base),
            "modality": self.modality,
            "sources": [{**_request(s), **s.about} for s in self.sources],
            "compose": self._compose(),
            "retrieval": None if self.retrieval is None else dict(self.retrieval),
            "notes": self.notes,
            **self.about,
        }

    def _compose(self) -> dict[str, Any]:
        return {"method": self.method, "params": dict(self.params), "seed": self.seed}

    def to_yaml(self) -> str:
        """The YAML text; `from_yaml` gives back an equal recipe."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Reads YAML.

        Raises:
            InvalidRequest: as `load_yaml`, or no recipe.
        """
        return cls.from_dict(load_yaml(text))

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """Reads the plain form.

        Raises:
            InvalidRequest: the field that is wrong, and what is expected.
        """
        if not isinstance(data, Mapping) or data.get("schema", SCHEMA) != SCHEMA:
            raise InvalidRequest(f"A recipe is an object with schema: {SCHEMA}.")
        base, compose = data.get("base") or {}, data.get("compose") or {}
        if not isinstance(base, Mapping) or not isinstance(compose, Mapping):
            raise InvalidRequest("base and compose of a recipe are objects.")
        sources, params = data.get("sources") or [], compose.get("params") or {}
        if not isinstance(params, Mapping):
            raise InvalidRequest("compose.params of a recipe is an object.")
        if not isinstance(sources, list) or not 1 <= len(sources) <= MAX_SOURCES:
            raise InvalidRequest(f"A recipe has 1 to {MAX_SOURCES} sources.")
        retrieval = data.get("retrieval")
        return cls(
            base={_text(k, "base"): _text(v, "base") for k, v in base.items()},
            sources=tuple(_source(s) for s in sources),
            method=_text(compose.get("method", "preset"), "compose.method"),
            params=dict(params),
            seed=_whole(compose.get("seed", 0), "compose.seed"),
            modality=_modality(data.get("modality", "text")),
            retrieval=dict(retrieval) if isinstance(retrieval, Mapping) else None,
            notes=_text(data.get("notes") or "", "notes")[:4000],
            about={str(k): v for k, v in data.items() if k not in RECIPE_FIELDS},
        )


def load_yaml(text: str) -> Any:
    """The plain content of YAML.

    Raises:
        InvalidRequest: not YAML, too deep, or with anchors, which could make it huge.
    """
    try:
        depth = 0
        for event in yaml.parse(text):
            if isinstance(event, yaml.AliasEvent):
                raise InvalidRequest("A recipe is written without YAML anchors.")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise InvalidRequest(f"A recipe is nested at most {MAX_DEPTH} deep.")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"This is not valid YAML: {str(error)[:300]}") from error


def _source(data: Any) -> Source:
    if not isinstance(data, Mapping) or not isinstance(data.get("id"), str) or not data["id"]:
        raise InvalidRequest("Every source of a recipe has an adapter id.")
    units = data.get("units") or {}
    if not isinstance(units, Mapping):
        raise InvalidRequest("units and module_weights of a source are objects.")
    return Source(
        id=data["id"],
        weight=_number(data.get("weight", 1.0), "weight"),
        enabled=bool(data.get("enabled", True)),
        units={str(name): _units(choice) for name, choice in units.items()},
        module_weights=checked_weights(data.get("module_weights") or {}),
        region=checked_region(data.get("region") or {}),
        about={str(k): v for k, v in data.items() if k not in SOURCE_FIELDS},
    )


def _units(choice: Any) -> dict[str, list[int]]:
    if isinstance(choice, Mapping) and len(choice) == 1:
        ((how, indices),) = choice.items()
        if how in ("include", "exclude") and isinstance(indices, list):
            return {str(how): sorted({_whole(i, "unit index") for i in indices})}
    raise InvalidRequest("units are {module: {include: [..]}} or {module: {exclude: [..]}}.")


def _modality(value: Any) -> str:
    if value not in ("text", "image"):
        raise InvalidRequest(f"modality of a recipe is {value!r}; it is text or image.")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} of a recipe is text.")
    return value


def _number(value: Any, name: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not -100 <= value <= 100:
        raise InvalidRequest(f"{name} is {value!r}; expected a number from -100 to 100.")
    return float(value)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise InvalidRequest(f"{name} is {value!r}; expected a whole number, 0 or more.")
    return value


def _request(source: Source) -> dict[str, Any]:
    """What a source asks for, without empty choices and without what is said about it."""
    whole = {name: getattr(source, name) for name in SOURCE_FIELDS}
    whole["module_weights"] = plain_weights(source.module_weights)
    return {k: v for k, v in whole.items() if v or k in ("id", "weight", "enabled")}


class _Dumper(yaml.SafeDumper):
    """Writes equal values out again instead of pointing at them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
