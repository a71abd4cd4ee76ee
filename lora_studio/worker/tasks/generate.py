"""Task: continue prompts, each row under its own plan, all rows in one batch."""

from __future__ import annotations

from typing import Any

from lora_studio.engines.rows import Row, RowUpdate, Sampling
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, load_adapters, row_plan


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, adapters {id: blob path}, rows [{id, prompt, terms, fuse,
    router, sampling, seed}].

    Sends data {rows: [{id, text, tokens, done}]} with the whole text of each changed row. Returns
    {rows: [{id, text, tokens, stop}], seconds, tokens, tokens_per_second}.
    """
    engine = engine_for(args, ctx)
    load_adapters(engine, args.get("adapters") or {}, ctx)
    rows = [
        Row(
            id=str(row["id"]),
            prompt=str(row["prompt"]),
            plan=row_plan(row),
            sampling=Sampling.from_dict(row.get("sampling") or {}),
            seed=int(row.get("seed") or 0),
        )
        for row in args["rows"]
    ]

    def stream(updates: list[RowUpdate]) -> None:
        fields = ("id", "text", "tokens", "done")
        ctx.emit({"rows": [{name: getattr(u, name) for name in fields} for u in updates]})

    result = engine.generate(rows, on_tokens=stream, check=ctx.check)
    ctx.check()
    return {
        "rows": [
            {"id": row.id, "text": row.text, "tokens": row.tokens, "stop": row.stop}
            for row in result.rows
        ],
        "seconds": result.seconds,
        "tokens": result.tokens,
        "tokens_per_second": result.tokens_per_second,
    }
