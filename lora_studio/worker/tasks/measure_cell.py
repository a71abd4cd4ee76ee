"""Task: compose a recipe and say how often it answers test prompts exactly. Keeps nothing."""

from __future__ import annotations

import time
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged, Recipe
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.evaluation.asking import exact_rate
from lora_studio.evaluation.plans import heard, row_plans
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import compose_adapter
from lora_studio.worker.tasks.blobs import Blobs
from lora_studio.worker.tasks.running import engine_for, load_adapters

CELL = "cell"
"""Name of the merged adapter among those that are resident."""


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, tests [{prompt, target}], similarity (for each test, id ->
    cosine, or []), and recipe, blobs {id: path}, samples {id: [prompt]}, family; without a recipe
    the base model answers.

    A prompt counts as answered when every token of its target, and the end, is the most likely one,
    which is what greedy decoding would write. Returns {n, correct, rate, low, high, seconds} and
    {rank, notes} of a merge.
    """
    started = time.monotonic()
    engine = engine_for(args, ctx)
    plans, told = _plans(args, engine, ctx)

    def report(done: int, of: int) -> None:
        ctx.progress(done / max(of, 1), f"{done} of {of} prompts")

    rate = exact_rate(engine, args["tests"], plans, report, ctx.check)
    return {**rate.to_dict(), **told, "seconds": round(time.monotonic() - started, 1)}


def _plans(
    args: dict[str, Any], engine: TextEngine, ctx: JobContext
) -> tuple[list[RowPlan], dict[str, Any]]:
    """A plan for each test, with its adapters in the bank; and what is to be told of them."""
    count = len(args["tests"])
    if not args.get("recipe"):
        return [RowPlan()] * count, {}
    recipe = Recipe.from_dict(args["recipe"])
    plan, excuse = compose_adapter.carry_out(args, recipe, Blobs(args["blobs"], ctx), ctx)
    told: dict[str, Any] = {"notes": [*plan.notes, *([excuse] if excuse else [])]}
    if isinstance(plan, Merged):
        told["rank"] = plan.adapter.max_rank
    else:
        load_adapters(engine, args["blobs"], ctx)

    def keep(name: str, adapter: Adapter) -> None:
        engine.bank.add(name, adapter, keep=args["blobs"].keys())

    prompts = [str(test["prompt"]) for test in args["tests"]]
    near = heard(plan, engine, prompts, args.get("similarity", ()))
    return row_plans(plan, near, count, CELL, keep), told
