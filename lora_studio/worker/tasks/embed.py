"""Task: turn texts into unit vectors, handed back as a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from lora_studio.retrieval.embed import load_embedder
from lora_studio.worker.job import JobContext

BATCH = 64


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: texts, embedder. Returns {path: .npy of (n, dim) float32, embedder, dim}."""
    embedder = load_embedder(args["embedder"])
    texts: list[str] = list(args["texts"])
    parts = [np.zeros((0, embedder.dim), np.float32)]
    for start in range(0, len(texts), BATCH):
        ctx.check()
        ctx.progress(start / len(texts), f"reading text {start + 1} of {len(texts)}")
        parts.append(embedder.encode(texts[start : start + BATCH]))
    path = ctx.scratch / "vectors.npy"
    np.save(path, np.concatenate(parts).astype(np.float32))
    return {"path": str(path), "embedder": embedder.id, "dim": embedder.dim}
