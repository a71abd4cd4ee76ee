"""Task: how likely given answers are, each row under its own plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lora_studio.engines.rows import ScoreRow
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, load_adapters, row_plan


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, adapters {id: blob path}, rows [{id, prompt, target, terms,
    fuse}]. Returns {rows: [{id, exact, logprob, tokens}]}."""
    engine = engine_for(args, ctx)
    load_adapters(engine, args.get("adapters") or {}, ctx)
    rows = [
        ScoreRow(str(row["id"]), str(row["prompt"]), str(row["target"]), row_plan(row))
        for row in args["rows"]
    ]
    return {"rows": [asdict(score) for score in engine.score(rows, check=ctx.check)]}
