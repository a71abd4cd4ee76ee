"""What was changed from one recipe to the next, in words for a list of what somebody tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_studio.composition import METHODS, Recipe, Source
from lora_studio.errors import NotFound

LONGEST = 60
"""Characters of a value that is named."""


def related(before: Recipe, after: Recipe) -> bool:
    """Whether `after` is what became of `before`: one base model, and an adapter in common."""
    ids = {source.id for source in before.active}
    same = before.base.get("repo") == after.base.get("repo")
    return same and any(source.id in ids for source in after.active)


def changes(before: Recipe, after: Recipe) -> list[str]:
    """One phrase each: adapters that came and went, weights, method or parameters, seed."""
    old = {source.id: source for source in before.active}
    new = {source.id: source for source in after.active}
    told = [f"with {_title(new[i])}" for i in new if i not in old]
    told += [f"without {_title(old[i])}" for i in old if i not in new]
    for name, source in new.items():
        if name in old:
            told += _of_source(old[name], source)
    told += _of_method(before, after)
    if before.seed != after.seed:
        told.append(f"seed {before.seed} → {after.seed}")
    return told


def _of_source(old: Source, new: Source) -> list[str]:
    title, told = _title(new), []
    if old.weight != new.weight:
        told.append(f"{title} {old.weight:g} → {new.weight:g}")
    for field, what in (
        ("module_weights", "weights by module"),
        ("units", "rank units"),
        ("region", "region"),
    ):
        mine, theirs = getattr(new, field), getattr(old, field)
        if mine != theirs:
            told.append(f"{title}: {'other' if mine else 'no'} {what}")
    return told


def _of_method(before: Recipe, after: Recipe) -> list[str]:
    if before.method != after.method:
        return [f"{_method(before.method)} → {_method(after.method)}"]
    titles = _parameters(after.method)
    old, new = before.params, after.params
    return [
        f"{titles.get(name, name)} {_value(old, name)} → {_value(new, name)}"
        for name in sorted(old.keys() | new.keys(), key=lambda n: (list(titles) + [n]).index(n))
        if old.get(name) != new.get(name)
    ]


def _value(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "–" if value is None else _short(f"{value:g}" if isinstance(value, float) else value)


def _title(source: Source) -> str:
    return _short(source.about.get("title") or source.id[:8])


def _method(name: str) -> str:
    try:
        return METHODS.get(name).title
    except NotFound:
        return _short(name)


def _parameters(method: str) -> dict[str, str]:
    try:
        return {param.name: param.title for param in METHODS.get(method).params}
    except NotFound:
        return {}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
