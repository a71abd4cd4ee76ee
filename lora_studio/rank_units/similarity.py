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
    present = [m for m in modules if m is not None]
    ranks = [m.rank for m in present]
    if len(present) < 2:
        return 0.0
    rows = np.concatenate([m.A for m in present]).astype(np.float64)
    return alike_by_index(rows @ rows.T, ranks)


def alike_by_index(gram: np.ndarray, ranks: Sequence[int]) -> float:
    """`shared_seed_score` from the inner products (R, R) of all rows of A, one adapter's after
    another's; `ranks` says how many are whose."""
    norms = np.sqrt(np.maximum(np.diag(gram), 0.0))
    norms = np.where(norms > 0, norms, 1.0)
    cosines = np.abs(gram) / np.outer(norms, norms)
    starts = np.cumsum([0, *ranks])
    gaps = []
    for i, j in combinations(range(len(ranks)), 2):
        rank = ranks[i]
        if rank != ranks[j] or rank < 2:
            continue
        block = cosines[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
        same, whole = float(np.trace(block)), float(block.sum())
        gaps.append(max(0.0, same / rank - (whole - same) / (rank * (rank - 1))))
    return float(np.mean(gaps)) if gaps else 0.0
