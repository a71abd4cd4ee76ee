"""The engine that stays loaded in the model child between jobs, and the adapters beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lora_studio.engines.loading import device_title
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.formats import canonical
from lora_studio.worker.job import JobContext

MAX_ROWS = 32


def engine_for(args: Mapping[str, Any], ctx: JobContext) -> TextEngine:
    """The engine for args base, device and max_rows. Another base or device frees the old one
    first, since both together may not fit."""
    base, device = str(args["base"]), str(args.get("device") or "auto")
    max_rows = max(1, int(args.get("max_rows") or MAX_ROWS))
    if ctx.state.get("engine_key") != (base, device):
        ctx.progress(None, f"loading {base}")
        old = ctx.state.pop("engine", None)
        ctx.state.pop("engine_key", None)
        ctx.state.pop("status", None)
        if old is not None:
            old.close()
        engine = TextEngine(base, device, max_rows)
        ctx.state |= {"engine": engine, "engine_key": (base, device)}
        ctx.state["status"] = lambda: facts(engine)
    engine = ctx.state["engine"]
    engine.decoder.max_rows = max_rows
    return engine


def load_adapters(engine: TextEngine, paths: Mapping[str, str], ctx: JobContext) -> None:
    """Makes the adapters of a job resident, reading the missing ones from their blobs."""
    missing = [adapter_id for adapter_id in paths if not engine.bank.has(adapter_id)]
    for done, adapter_id in enumerate(missing):
        ctx.check()
        ctx.progress(done / len(missing), f"loading adapter {done + 1} of {len(missing)}")
        engine.bank.add(adapter_id, canonical.read(paths[adapter_id]), keep=paths.keys())


def row_plan(row: Mapping[str, Any]) -> RowPlan:
    """The plan in a row's "terms" [[id, weight]] and "fuse"."""
    terms = tuple((str(adapter_id), float(weight)) for adapter_id, weight in row.get("terms", ()))
    return RowPlan(terms, bool(row.get("fuse", False)))


def facts(engine: TextEngine) -> dict[str, Any]:
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
