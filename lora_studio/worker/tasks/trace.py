"""Task: who spoke at each token of an answer."""

from __future__ import annotations

from typing import Any

from lora_studio.engines.tracing import trace
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, load_adapters, row_plan


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, adapters {id: blob path}, row {prompt, text, terms, fuse,
    router}. Returns `Decision.to_dict`."""
    engine = engine_for(args, ctx)
    load_adapters(engine, args.get("adapters") or {}, ctx)
    row = args["row"]
    plan = row_plan(row)
    return trace(engine, str(row["prompt"]), str(row["text"]), plan).to_dict()
