"""Task: compose a recipe and say how often it answers test prompts exactly. Keeps nothing."""

from __future__ import annotations

import time
from typing import Any

from lora_studio.composition import Merged, Recipe, Routed
from lora_studio.engines.rows import RowPlan, ScoreRow
from lora_studio.engines.text import TextEngine
from lora_studio.evaluation.metrics import Rate
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import compose_adapter
from lora_studio.worker.tasks.blobs import Blobs
from lora_studio.worker.tasks.running import engine_for, equip_routers, load_adapters

CELL = "cell"
"""Name of the merged adapter among those that are resident."""
PART = 25
"""Prompts between two reports."""


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
    rows = [
        ScoreRow(str(place), test["prompt"], test["target"], plan)
        for place, (test, plan) in enumerate(zip(args["tests"], plans, strict=True))
    ]
    rate = Rate(0, 0)
    for start in range(0, len(rows), PART):
        ctx.progress(start / len(rows), f"{start} of {len(rows)} prompts")
        part = engine.score(rows[start : start + PART], check=ctx.check)
        rate += Rate(sum(score.exact for score in part), len(part))
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
    if isinstance(plan, Routed):
        load_adapters(engine, args["blobs"], ctx)
        for name, adapter in plan.made.items():
            engine.bank.add(name, adapter, keep=args["blobs"].keys())
        rows = [plan.row(near) for near in args["similarity"]]
        plans = [RowPlan(row.terms, row.fuse, row.router) for row in rows]
        equip_routers(engine, plans)
        return plans, {"notes": list(plan.notes)}
    assert isinstance(plan, Merged)
    engine.bank.add(CELL, plan.adapter)
    told = {"rank": plan.adapter.max_rank, "notes": [*plan.notes, *([excuse] if excuse else [])]}
    return [RowPlan(((CELL, 1.0),))] * count, told
