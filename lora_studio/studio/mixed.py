"""Routed plans of a recipe, also those of which a part was merged when the recipe was composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Merged, Plan, Recipe, Routed, run_recipe
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.gallery import Gallery


def routed_plan(
    recipe: Recipe,
    lookup: Callable[[str], Adapter],
    result: Callable[[], Mapping[str, Any]],
) -> Plan:
    """The plan of a recipe that is carried out at run time, without its base model.

    Args:
        result: what came of the recipe; asked for only where the method had to try things.

    Raises:
        InvalidRequest: the recipe makes one adapter, or has to be composed first.
    """
    method = METHODS.get(recipe.method)
    if method.kind != "routing" or not method.tunes(recipe.params):
        plan = run_recipe(recipe, lookup)
        if isinstance(plan, Merged):
            raise InvalidRequest("This recipe makes one adapter; compose it and download that.")
        return plan
    found = result()
    merged = found.get("merged")
    return Routed(
        found["rule"],
        {source.id: source.weight for source in recipe.active},
        found["top_k"],
        stand_ins=dict.fromkeys(merged["sources"], str(merged["id"])) if merged else {},
    )


def kept_result(gallery: Gallery, recipe: Recipe) -> dict[str, Any]:
    """What came of a recipe the last time; raises InvalidRequest if it was never composed."""
    try:
        return gallery.get_recipe(recipe.id)["result"]
    except NotFound as error:
        raise InvalidRequest(
            "What is merged here and what is routed is found out by composing: do that first."
        ) from error


def who_answers(titles: Mapping[str, str], merged: Sequence[str]) -> str:
    """Which adapters were merged and which are routed to, by title.

    Args:
        titles: of all sources, by id.
    """
    together = [titles[i] for i in titles if i in merged]
    alone = [titles[i] for i in titles if i not in merged]
    if not together:
        return ""
    said = f"Merged: {', '.join(together)}."
    return f"{said} Routed to as they are: {', '.join(alone)}." if alone else said
