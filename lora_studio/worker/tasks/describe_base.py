"""Task: load a base model and say what it is."""

from __future__ import annotations

from typing import Any

from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.pictures import Denoising
from lora_studio.engines.text import TextEngine
from lora_studio.families import modality_of
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, facts, image_engine_for


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, modality of a base whose name does not tell it.

    Returns {base, device, gpu_memory, adapters_resident, modality, architecture, parameters, dtype,
    modules {name: [d_in, d_out]}}; of a language model also {max_tokens, vocabulary, chat}, of an
    image model {family, steps, guidance, width, height}.
    """
    known = modality_of(str(args["base"]), args.get("modality") or "text")
    if known == "text":
        engine = engine_for(args, ctx)
        own = _language(engine)
    else:
        engine = image_engine_for(args, ctx)
        wish = engine.settled(Denoising())
        own = {
            "architecture": type(engine.pipe).__name__,
            "dtype": str(engine.denoiser.dtype).removeprefix("torch."),
            "family": engine.family.name,
            "steps": wish.steps,
            "guidance": wish.guidance,
            "width": wish.width,
            "height": wish.height,
        }
    modules = adaptable_modules(engine.bank.modules)
    return {
        **facts(engine),
        **own,
        "modality": known,
        "parameters": engine.parameters,
        "modules": {name: list(dims) for name, dims in modules.items()},
    }


def _language(engine: TextEngine) -> dict[str, Any]:
    return {
        "architecture": type(engine.model).__name__,
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "max_tokens": engine.max_tokens,
        "vocabulary": len(engine.tokenizer),
        "chat": bool(engine.tokenizer.chat_template),
    }
