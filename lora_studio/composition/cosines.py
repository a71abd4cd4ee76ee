"""How alike a merge is to each of its sources, in one pass over the modules of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors


def cosines(merged: Adapter, sources: Sequence[Adapter]) -> list[float]:
    """`merged.cosine(source)` of each source, in [-1, 1], from (rank, rank) products in float32.

    A module is looked at once and then left alone, whatever the number of sources.
    """
    inner = np.zeros(len(sources))
    squares = np.zeros(len(sources))
    own = 0.0
    for name, module in merged.modules():
        own += _inner(module, module)
        for i, source in enumerate(sources):
            if name in source.factors:
                inner[i] += _inner(module, source.factors[name])
    for i, source in enumerate(sources):
        squares[i] = sum(_inner(module, module) for _, module in source.modules())
    norms = np.sqrt(np.maximum(squares * own, 0.0))
    return np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0).tolist()


def _inner(one: LoraFactors, two: LoraFactors) -> float:
    left, right = one.B.T @ two.B, one.A @ two.A.T  # (r, r')
    return one.scaling * two.scaling * float(np.sum(left * right, dtype=np.float64))
