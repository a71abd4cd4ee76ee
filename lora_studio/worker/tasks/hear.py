"""Task: how loudly adapters answer to prompts, before one is chosen."""

from __future__ import annotations

from typing import Any

from lora_studio.engines.hearing import hear
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, load_adapters


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, adapters {id: blob path}, prompts. Returns {signals: for each
    prompt {id: signal}}."""
    engine = engine_for(args, ctx)
    load_adapters(engine, args["adapters"], ctx)
    return {"signals": hear(engine, args["prompts"], list(args["adapters"]), ctx.check)}
