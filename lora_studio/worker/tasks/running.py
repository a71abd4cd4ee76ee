"""The engine that stays loaded in the model child between jobs, and the adapters beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from lora_studio.composition.token_router import TokenRouter
from lora_studio.engines.loading import device_title
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.errors import InvalidRequest
from lora_studio.families import modality_of
from lora_studio.formats import canonical
from lora_studio.worker.job import JobContext

if TYPE_CHECKING:
    from lora_studio.engines.image import ImageEngine

MAX_ROWS = 32
BATCH_PER_ROW = 2
"""Rows of the denoiser's batch for one picture: guidance doubles it."""


def engine_for(args: Mapping[str, Any], ctx: JobContext) -> TextEngine:
    """The language model for args base, device and max_rows."""
    engine = _loaded(args, ctx)
    if not isinstance(engine, TextEngine):
        raise InvalidRequest(f"{args['base']} makes pictures; choose a language model.")
    engine.decoder.max_rows = _max_rows(args)
    return engine


def image_engine_for(args: Mapping[str, Any], ctx: JobContext) -> ImageEngine:
    """The image model for args base, device and max_rows."""
    engine = _loaded(args, ctx)
    if isinstance(engine, TextEngine):
        raise InvalidRequest(f"{args['base']} writes text; choose an image model.")
    engine.max_batch = BATCH_PER_ROW * _max_rows(args)
    return engine


def _loaded(args: Mapping[str, Any], ctx: JobContext) -> TextEngine | ImageEngine:
    """Another base or device frees the old engine first, since both together may not fit."""
    base, device = str(args["base"]), str(args.get("device") or "auto")
    if ctx.state.get("engine_key") != (base, device):
        ctx.progress(None, f"loading {base}")
        old = ctx.state.pop("engine", None)
        ctx.state.pop("engine_key", None)
        ctx.state.pop("status", None)
        if old is not None:
            old.close()
        if modality_of(base, args.get("modality") or "text") == "image":
            from lora_studio.engines.image import ImageEngine

            engine: TextEngine | ImageEngine = ImageEngine(base, device)
        else:
            engine = TextEngine(base, device, _max_rows(args))
        ctx.state |= {"engine": engine, "engine_key": (base, device)}
        ctx.state["status"] = lambda: facts(engine)
    return ctx.state["engine"]


def _max_rows(args: Mapping[str, Any]) -> int:
    return max(1, int(args.get("max_rows") or MAX_ROWS))


def load_adapters(
    engine: TextEngine | ImageEngine, paths: Mapping[str, str], ctx: JobContext
) -> None:
    """Makes the adapters of a job resident, reading the missing ones from their blobs."""
    missing = [adapter_id for adapter_id in paths if not engine.bank.has(adapter_id)]
    for done, adapter_id in enumerate(missing):
        ctx.check()
        ctx.progress(done / len(missing), f"loading adapter {done + 1} of {len(missing)}")
        engine.bank.add(adapter_id, canonical.read(paths[adapter_id]), keep=paths.keys())


def row_plan(row: Mapping[str, Any]) -> RowPlan:
    """The plan in a row's "terms" [[id, weight]], "fuse" and "router"."""
    terms = tuple((str(adapter_id), float(weight)) for adapter_id, weight in row.get("terms", ()))
    router = TokenRouter.from_dict(row["router"]) if row.get("router") else None
    return RowPlan(terms, bool(row.get("fuse", False)), router)


def facts(engine: TextEngine | ImageEngine) -> dict[str, Any]:
    """What the lane's status tells of the engine; memory in bytes."""
    gpu = None
    if engine.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(engine.device)
        gpu = {"used": total - free, "total": total}
    return {
        "device": device_title(engine.device),
        "base": engine.base,
        "adapters_resident": len(engine.bank.ids),
        "gpu_memory": gpu,
    }
