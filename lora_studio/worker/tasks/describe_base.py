"""Task: load a base model and say what it is."""

from __future__ import annotations

from typing import Any

from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, facts


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows. Returns {base, device, gpu_memory, adapters_resident,
    architecture, parameters, dtype, max_tokens, vocabulary, chat, modules {name: [d_in, d_out]}}.
    """
    engine = engine_for(args, ctx)
    modules = adaptable_modules(engine.bank.modules)
    return {
        **facts(engine),
        "architecture": type(engine.model).__name__,
        "parameters": engine.parameters,
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "max_tokens": engine.max_tokens,
        "vocabulary": len(engine.tokenizer),
        "chat": bool(engine.tokenizer.chat_template),
        "modules": {name: list(dims) for name, dims in modules.items()},
    }
