"""The map of rank units: of the chosen adapters and, if asked for, of what was composed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lora_studio.composition import Recipe
from lora_studio.errors import NotFound
from lora_studio.gallery import Entry, Gallery
from lora_studio.studio.flow import Flow, Steps
from lora_studio.worker.job import Job


def cluster_units(
    flow: Flow,
    gallery: Gallery,
    sources: Sequence[tuple[Entry, float]],
    made: Entry | None,
    wish: Mapping[str, Any],
    folder: Path,
) -> Steps:
    """Yields progress; returns what the task does, with the adapters' titles and the file's path.

    Args:
        sources: adapters with their weights. made: a composition to show among them.
        wish: module, k, basis, gauge, seed.
    """
    out = folder / f"{uuid4().hex}.bin"
    out.parent.mkdir(parents=True, exist_ok=True)
    shown = [entry for entry, _ in sources] + ([made] if made else [])
    args = {
        **wish,
        "sources": [{"id": entry.id, "weight": weight} for entry, weight in sources],
        "blobs": {entry.id: str(gallery.blob_path(entry.id)) for entry in shown},
        "result": made and {"id": made.id, **_kept_shares(gallery, made)},
        "out": str(out),
    }
    found = yield from flow.run(Job("cluster_units", args, "light"))
    named = [{"id": entry.id, "title": entry.title} for entry, _ in sources]
    if made:
        found = {**found, "result": {**found["result"], "title": made.title}}
    return {**found, "adapters": named, "path": str(out)}


def _kept_shares(gallery: Gallery, made: Entry) -> dict[str, Any]:
    """What its method said of whose each unit is, and of which adapters, if it did."""
    try:
        found = gallery.get_recipe(made.recipe) if made.recipe else {}
    except NotFound:
        return {}
    shares = (found.get("result") or {}).get("shares")
    if not shares or found["adapter_id"] != made.id:
        return {}
    return {"shares": shares, "of": [s.id for s in Recipe.from_yaml(found["yaml"]).active]}
