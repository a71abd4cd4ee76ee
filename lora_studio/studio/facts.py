"""What the studio tells about itself: its status and its methods."""

from __future__ import annotations

from typing import Any

import psutil

from lora_studio.composition import METHODS
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio.librarian import Librarian
from lora_studio.worker.job import Worker


def status(
    settings: Settings, gallery: Gallery, worker: Worker, librarian: Librarian
) -> dict[str, Any]:
    """Device, memory in bytes, queue and search mode, as the header shows them."""
    lanes = worker.status()
    own = psutil.Process().memory_info().rss
    model = lanes["model"]
    damaged = [entry for entry in gallery.damaged() if entry.visibility == "public"]
    return {
        "base": {"id": settings.base_model, "loaded": model.get("base") or ""},
        "device": model.get("device") or settings.device,
        "memory": {
            "rss": own + sum(lane.get("rss") or 0 for lane in lanes.values()),
            "total": psutil.virtual_memory().total,
            "gpu": model.get("gpu_memory"),
        },
        "lanes": lanes,
        "queue": sum(lane.get("queued") or 0 for lane in lanes.values()),
        "search": "semantic" if librarian.ready else "keyword",
        "search_problem": librarian.problem,
        "adapters": gallery.count(),
        "damaged": [{"id": entry.id, "title": entry.title} for entry in damaged],
        "persistent": settings.persistent,
    }


def methods() -> list[dict[str, Any]]:
    """Every method with its parameters, in the order of the menu."""
    return [
        {
            "name": m.name,
            "title": m.title,
            "kind": m.kind,
            "group": m.group,
            "modality": m.modality,
            "families": list(m.families),
            "uses_regions": m.uses_regions,
            "needs_gate": m.uses_gate,
            "summary": m.summary,
            "paper": m.paper,
            "needs_model": m.uses_model,
            "params": [vars(p) for p in m.params],
        }
        for m in METHODS
    ]
