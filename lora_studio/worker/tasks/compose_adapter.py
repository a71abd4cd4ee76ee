"""Task: carry out a recipe and write the adapter; with the model at hand, tune it on samples.

Without the model the adapter is written as it is made, module by module.
"""

from __future__ import annotations

from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition import (
    METHODS,
    Plan,
    Recipe,
    Routed,
    Scheduled,
    choose_units,
    run_recipe,
)
from lora_studio.composition.cosines import cosines
from lora_studio.composition.inspection import scheduled_figures
from lora_studio.composition.probe import ModelProbe
from lora_studio.composition.replay import fingerprint
from lora_studio.composition.router_weights import check_fitted
from lora_studio.composition.shares import packed
from lora_studio.errors import Cancelled, LoraStudioError
from lora_studio.formats import canonical
from lora_studio.gallery.failures import storage_errors
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.blobs import Blobs


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: recipe, blobs {id: path}, out (file to write); in the model lane also base, device,
    max_rows and samples {id: [prompt]}.

    Returns {routed} for a plan that is carried out at run time (with the figures of a schedule if
    it is one; {rule, top_k, notes, untuned, stand_ins} of a routed one, and where part of it was
    merged also what follows, of that part), else {notes, untuned, rank, cosines, fingerprint,
    shares as `composition.shares.packed`}; the adapter is at `out`. `untuned` says that tuning was
    asked for and the base model could not be loaded.
    """
    recipe = Recipe.from_dict(args["recipe"])
    blobs = Blobs(args["blobs"], ctx)
    plan, excuse = carry_out(args, recipe, blobs, ctx)
    check_fitted(plan, recipe.base.get("repo", ""))
    if isinstance(plan, Scheduled):
        return {"routed": True, **scheduled_figures(plan)}
    facts = {
        "routed": isinstance(plan, Routed),
        "notes": [*plan.notes, *([excuse] if excuse else [])],
        "untuned": bool(excuse),
    }
    if isinstance(plan, Routed):
        facts |= {"rule": plan.rule, "top_k": plan.top_k, "stand_ins": dict(plan.stand_ins)}
        for adapter in plan.made.values():  # one at most
            facts |= _write(adapter, args["out"], recipe, blobs, ctx)
        return facts
    facts |= _write(plan.adapter, args["out"], recipe, blobs, ctx)
    shares = packed(plan.shares, plan.adapter.ranks, len(recipe.active))
    return {**facts, "shares": shares}


def carry_out(
    args: dict[str, Any], recipe: Recipe, blobs: Blobs, ctx: JobContext
) -> tuple[Plan, str]:
    """The plan of a recipe, and why it could not be tuned on the base model if that was asked."""
    tunes = "base" in args and METHODS.get(recipe.method).tunes(recipe.params)
    probe, excuse = _probe(args, recipe, blobs, ctx) if tunes else (None, "")
    family = str(args.get("family", ""))
    plan = run_recipe(
        recipe, blobs, probe=probe, progress=blobs.progress, family=family, stream=probe is None
    )
    return plan, excuse


def _write(
    adapter: Adapter, out: str, recipe: Recipe, blobs: Blobs, ctx: JobContext
) -> dict[str, Any]:
    """{rank, fingerprint, cosines} of an adapter that is written to `out`, perhaps made there."""
    ctx.check()
    with storage_errors():
        canonical.write(adapter, out)
    merged = canonical.read(out)
    found = cosines(merged, [choose_units(blobs(s.id), s) for s in recipe.active])
    named = {s.id: cosine for s, cosine in zip(recipe.active, found, strict=True)}
    return {"rank": merged.max_rank, "fingerprint": fingerprint(merged), "cosines": named}


def _probe(
    args: dict[str, Any], recipe: Recipe, blobs: Blobs, ctx: JobContext
) -> tuple[ModelProbe | None, str]:
    """The probe, or None and the reason: merging goes on where the base model is not to be had."""
    from lora_studio.evaluation.image_probe import ImageProbe
    from lora_studio.evaluation.probe import EngineProbe
    from lora_studio.worker.tasks.running import engine_for, image_engine_for

    pictures = recipe.modality == "image"
    try:
        engine = (image_engine_for if pictures else engine_for)(
            {**args, "modality": recipe.modality}, ctx
        )
    except Cancelled:
        raise
    except LoraStudioError as error:
        return None, str(error)
    ctx.progress(0.0, "asking each source what it makes of its samples")
    sources = {s.id: choose_units(blobs(s.id), s) for s in recipe.active}
    samples = args.get("samples", {})
    make: Any = ImageProbe if pictures else EngineProbe
    return make(engine, sources, samples, blobs.progress, ctx.check), ""
