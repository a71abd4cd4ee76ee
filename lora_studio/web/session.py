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
    """Where in the picture and in which blocks an adapter acts, if the visitor chose that."""
    chosen: dict[str, Any] = {}
    if row.get("region"):
        chosen["region"] = row["region"]
    if blocks := row.get("blocks"):
        chosen["module_weights"] = {str(k): float(v) for k, v in blocks.items() if v != 1}
    return chosen


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
    recipe = found["recipe"]
    basket = []
    for source in recipe.get("sources", []):
        row = {k: source.get(k) for k in ("id", "weight", "enabled")}
        row |= {"region": source.get("region") or {}, "blocks": source.get("module_weights") or {}}
        try:
            entry = studio.get_adapter(source["id"])
            row |= {k: entry[k] for k in _SHOWN}
        except LoraStudioError:
            row |= {"title": f"Missing adapter {str(source['id'])[:8]}", "missing": True}
        basket.append(row)
    compose = recipe.get("compose") or {}
    draft = {k: compose.get(k) for k in ("method", "params", "seed")}
    return {
        "basket": basket,
        "base": (recipe.get("base") or {}).get("repo"),
        "draft": draft,
        "retrieval": recipe.get("retrieval"),
        "opened": {"recipe_id": found["id"], "adapter_id": found.get("adapter_id")},
        "open": "compose",
    }
