"""Task: the dry run. Carries out a recipe without a base model and says what would come of it."""

from __future__ import annotations

import time
from typing import Any

from lora_studio.composition import (
    METHODS,
    Merged,
    Recipe,
    Scheduled,
    choose_units,
    run_recipe,
)
from lora_studio.composition.cosines import cosines
from lora_studio.composition.inspection import (
    norm_ratio,
    peft_bytes,
    scheduled_figures,
    sign_conflict,
)
from lora_studio.composition.router_weights import check_fitted
from lora_studio.rank_units import SHARED_SEED, SHARED_SEED_WARNING, shared_seed
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.blobs import Blobs


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: recipe, blobs {id: path}, family of the base ("" unknown).

    Returns the figures listed in `Studio.plan_composition`; for a scheduled plan, which is carried
    out at run time as a routed one is, those of `scheduled_figures` beside them.
    """
    recipe = Recipe.from_dict(args["recipe"])
    blobs = Blobs(args["blobs"], ctx)
    start = time.perf_counter()
    family = str(args.get("family", ""))
    plan = run_recipe(recipe, blobs, progress=blobs.progress, family=family)
    seconds = time.perf_counter() - start
    check_fitted(plan, recipe.base.get("repo", ""))
    active = recipe.active
    sources = [choose_units(blobs(s.id), s) for s in active]
    weights = [s.weight for s in active]
    conflict = sign_conflict(sources, weights)
    figures: dict[str, Any] = {
        "routed": not isinstance(plan, Merged),
        "scheduled": False,
        "method": METHODS.get(recipe.method).title,
        "sign_conflict": conflict.total,
        "sign_conflict_by_module": conflict.by_module,
        "seconds": seconds,
        "warnings": [],
    }
    if isinstance(plan, Merged):
        ranks = plan.adapter.ranks.values()
        figures |= {
            "rank": {"min": min(ranks), "max": max(ranks)},
            "parameters": plan.adapter.parameters,
            "bytes": peft_bytes(plan.adapter),
            "modules": len(plan.adapter.factors),
            "norm_ratio": norm_ratio(plan.adapter, sources),
            "cosines": [
                {"id": s.id, "cosine": cosine}
                for s, cosine in zip(active, cosines(plan.adapter, sources), strict=True)
            ],
        }
    elif isinstance(plan, Scheduled):
        figures |= scheduled_figures(plan)
    else:
        tries = METHODS.get(recipe.method).tunes(recipe.params)
        figures |= {"rule": plan.rule, "top_k": plan.top_k, "tries": tries}
    figures["warnings"] = _warnings(recipe, sources, figures)
    return figures


def _warnings(recipe: Recipe, sources: list[Any], figures: dict[str, Any]) -> list[str]:
    found: list[str] = []
    names = sorted({name for a in sources for name in a.factors})
    if recipe.method in ("linear", "lego") and shared_seed(sources, names) > SHARED_SEED:
        found.append(SHARED_SEED_WARNING)
    if len(sources) == 1 and not figures["routed"]:
        found.append("With one adapter this only changes its rank and strength.")
    elif not figures["routed"] and min(c["cosine"] for c in figures["cosines"]) < 0.2:
        found.append(
            "The result keeps little of the direction of at least one source (cosine below 0.2). "
            "Raise the rank, use fewer adapters, or route instead."
        )
    partial = [n for n in names if any(n not in a.factors for a in sources)]
    if partial:
        found.append(f"{len(partial)} of {len(names)} modules are not in every adapter.")
    return found
