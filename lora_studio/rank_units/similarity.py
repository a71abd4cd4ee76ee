"""Whether adapters share the seed of their initial A, which makes their units look alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors

SHARED_SEED = 0.3
"""Score from which adapters count as started from one random A."""

SHARED_SEED_WARNING = (
    "These adapters started from the same random A. Their units cluster by rank index, a trace of "
    "initialisation, not of what they do; linear at weights 1 adds them up far too strongly."
)


def shared_seed(adapters: Sequence[Adapter], modules: Sequence[str]) -> float:
    """Mean of `shared_seed_score` over the modules, in [0, 1]; compare with SHARED_SEED."""
    scores = [shared_seed_score([a.factors.get(name) for a in adapters]) for name in modules]
    return float(np.mean(scores)) if scores and len(adapters) > 1 else 0.0


def shared_seed_score(modules: Sequence[LoraFactors | None]) -> float:
    """How much more alike rows of A with the same rank index are than others, in [0, 1].

    Near 0 for adapters trained from their own seeds; near 1 when they started from the same random
    A. Then units cluster by rank index, which says nothing about what they do.
    """
    gaps = []
    present = [m for m in modules if m is not None]
    for left, right in combinations(present, 2):
        if left.rank != right.rank or left.rank < 2:
            continue
        cosines = np.abs(_cosines(left.A, right.A))  # (r, r)
        same = float(np.diag(cosines).mean())
        other = float((cosines.sum() - np.trace(cosines)) / (left.rank * (left.rank - 1)))
        gaps.append(max(0.0, same - other))
    return float(np.mean(gaps)) if gaps else 0.0


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    def unit(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)

    return unit(left) @ unit(right).T
