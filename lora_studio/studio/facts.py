"""What the studio tells about itself: its status, its base models, its methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from lora_studio.composition import METHODS
from lora_studio.gallery import Gallery
from lora_studio.settings import DEMO_BASE, Settings
from lora_studio.studio.librarian import Librarian
from lora_studio.worker.job import Worker


def status(
    settings: Settings, gallery: Gallery, worker: Worker, librarian: Librarian
) -> dict[str, Any]:
    """Device, memory in bytes, queue and search mode, as the header shows them."""
    lanes = worker.status()
    own = psutil.Process().memory_info().rss
    model = lanes["model"]
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
        "persistent": settings.persistent,
    }


def base_models(settings: Settings, gallery: Gallery) -> list[dict[str, Any]]:
    """Base models of the gallery's adapters, the configured one first."""
    facets = gallery.search(limit=1).facets.get("base", [])
    counts = {f["value"]: f["count"] for f in facets if f["value"]}
    return [
        {
            "id": name,
            "title": "Demo (tiny Llama)" if name == DEMO_BASE else name,
            "kind": _kind(name),
            "adapters": counts.get(name, 0),
        }
        for name in dict.fromkeys([settings.base_model, *counts])
    ]


def methods() -> list[dict[str, Any]]:
    """Every method with its parameters, in the order of the menu."""
    return [
        {
            "name": m.name,
            "title": m.title,
            "kind": m.kind,
            "summary": m.summary,
            "paper": m.paper,
            "needs_model": m.uses_model,
            "params": [vars(p) for p in m.params],
        }
        for m in METHODS
    ]


def _kind(name: str) -> str:
    if name == DEMO_BASE:
        return "demo"
    return "folder" if Path(name).is_dir() else "hub"
