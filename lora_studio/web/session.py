"""What a visitor has picked, as the page sends it: basket, method, columns. All of it untrusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lora_studio.compare import MAX_COLUMNS
from lora_studio.errors import InvalidRequest, LoraStudioError

MAX_BASKET = 32

STORAGE_KEY = "lora-studio-session"
STORAGE_SECRET = "kept-on-this-computer"

Session = Mapping[str, Any]

CHOICES = ("region", "module_weights", "units")
"""What a row of the basket may say of its adapter beside the weight, named as in a recipe."""

_SHOWN = ("title", "max_rank", "layer_norms", "parents", "thumbnail", "base_model")


def base_of(session: Session | None, default: str) -> str:
    """The base model the visitor works with."""
    base = (session or {}).get("base")
    return base if isinstance(base, str) and base.strip() else default


def sources_of(session: Session | None, only_enabled: bool = True) -> list[dict[str, Any]]:
    """Basket as recipe sources: [{"id", "weight", "enabled"}]; malformed rows are refused."""
    rows = (session or {}).get("basket") or []
    if not isinstance(rows, Sequence) or len(rows) > MAX_BASKET:
        raise InvalidRequest(f"A basket holds at most {MAX_BASKET} adapters. Remove some.")
    sources = []
    for row in rows:
        weight = row.get("weight", 1.0)
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InvalidRequest(f"The weight {weight!r} is not a number. Type one, such as 0.8.")
        enabled = bool(row.get("enabled", True))
        if enabled or not only_enabled:
            source = {"id": str(row["id"]), "weight": float(weight), "enabled": enabled}
            sources.append(source | _choices(row))
    return sources


def _choices(row: Mapping[str, Any]) -> dict[str, Any]:
    """Where in the picture, in which modules and with which rank units an adapter acts, if the
    visitor chose that; a recipe checks what it says."""
    return {name: row[name] for name in CHOICES if row.get(name)}


def recipe_of(
    session: Session | None,
    base: str,
    method: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The request the visitor has on screen, as a recipe dict (schema 1)."""
    draft = (session or {}).get("draft") or {}
    sources = sources_of(session)
    if not sources:
        raise InvalidRequest("Pick at least one adapter in the gallery, or describe a task.")
    if method is None:
        method, params = draft.get("method"), draft.get("params") or {}
    return {
        "schema": 1,
        "base": {"repo": base},
        "sources": sources,
        "retrieval": (session or {}).get("retrieval"),
        "compose": {
            "method": str(method),
            "params": dict(params or {}),
            "seed": int(draft.get("seed") or 0),
        },
        "notes": str(draft.get("notes") or ""),
    }


def columns_of(session: Session | None, studio: Any, base: str) -> list[dict[str, Any]]:
    """Columns as compare_outputs takes them; the base is always first."""
    columns: list[dict[str, Any]] = [{"kind": "base"}]
    for column in ((session or {}).get("columns") or [])[: MAX_COLUMNS - 1]:
        kind, title = column.get("kind"), str(column.get("title") or "")
        if kind == "adapter":
            columns.append({"kind": "adapter", "id": str(column["id"]), "title": title})
        elif kind == "random":
            columns.append({"kind": "random", "title": title})
        elif kind == "noise":
            columns.append({"kind": "noise", "id": str(column["id"])})
        elif kind == "composition":
            recipe = studio.get_recipe(str(column["recipe_id"]))["recipe"]
            columns.append({"kind": "recipe", "recipe": recipe, "title": title})
        elif kind == "method":
            recipe = recipe_of(session, base, str(column["method"]), {})
            columns.append({"kind": "recipe", "recipe": recipe, "title": title})
    return columns


def test_sources_of(session: Session | None) -> list[str]:
    """Adapters whose test prompts judge a comparison: those in the basket and in the columns.

    A composition has no tests of its own, so its parents stand for it.
    """
    rows = [*((session or {}).get("basket") or [])[:MAX_BASKET]]
    rows += [
        c for c in (session or {}).get("columns") or [] if c.get("kind") not in ("random", "noise")
    ]
    ids: list[str] = []
    for row in rows:
        own = [row["id"]] if row.get("id") else []
        ids += [str(i) for i in (row.get("parents") or row.get("sources") or own)]
    return list(dict.fromkeys(ids))


def shown_of(session: Session | None, studio: Any) -> str:
    """The composition whose units are wanted on the map; "" for none, or one that is gone."""
    shown = (session or {}).get("shown")
    if not shown or not isinstance(shown, str):
        return ""
    try:
        return str(studio.get_adapter(shown)["id"])
    except LoraStudioError:
        return ""


def session_from_recipe(studio: Any, recipe_id: str) -> dict[str, Any]:
    """The session that shows a saved recipe again: its basket, its method, its result."""
    found = studio.get_recipe(recipe_id)
    return session_from(studio, {**found, "recipe_id": found["id"]})


def session_from(studio: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a recipe that was found, as {recipe, recipe_id, adapter_id, notes, missing};
    see `Studio.open_recipe`."""
    recipe, notes = found["recipe"], list(found.get("notes") or [])
    here = {row["id"]: row["here"] for row in found.get("missing") or []}
    compose = recipe.get("compose") or {}
    draft = {k: compose.get(k) for k in ("method", "params", "seed")}
    return {
        "basket": [_row(studio, s, here.get(s["id"])) for s in recipe["sources"]],
        "base": (recipe.get("base") or {}).get("repo"),
        "draft": {**draft, "title": "", "notes": recipe.get("notes") or ""},
        "retrieval": recipe.get("retrieval"),
        "opened": {k: found.get(k) for k in ("recipe_id", "adapter_id")}
        | {"title": _title(studio, found), "method": draft["method"], "notes": notes},
        "open": "compose",
    }


def _title(studio: Any, found: Mapping[str, Any]) -> str:
    """What the composition is called, or what it is made of."""
    try:
        return studio.get_adapter(found["adapter_id"])["title"] if found.get("adapter_id") else ""
    except LoraStudioError:
        return ""


def _row(studio: Any, source: Mapping[str, Any], here: Any) -> dict[str, Any]:
    """A row of the basket; `here` is another version of an adapter that is missing."""
    row = {"weight": 1.0, "enabled": True} | {
        k: source[k] for k in ("id", "weight", "enabled") if k in source
    }
    row |= {name: source.get(name) or {} for name in CHOICES}
    try:
        entry = studio.get_adapter(source["id"])
        return row | {k: entry[k] for k in _SHOWN}
    except LoraStudioError:
        title = str(source.get("title") or f"Missing adapter {str(source['id'])[:8]}")[:120]
        return row | {"title": title, "missing": True, "here": here}
