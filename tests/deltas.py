"""Comparing adapters by what they do: their dense updates."""

from __future__ import annotations

import numpy as np

from lora_studio.adapter import Adapter


def deltas(adapter: Adapter) -> dict[str, np.ndarray]:
    return {name: module.delta().astype(np.float64) for name, module in adapter.factors.items()}


def weighted_sum(adapters: list[Adapter], weights: list[float]) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for name, delta in deltas(adapter).items():
            total[name] = total.get(name, 0) + weight * delta
    return total


def distance(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """Largest relative Frobenius distance over modules; infinite if the modules differ."""
    if left.keys() != right.keys():
        return float("inf")
    return max(
        float(np.linalg.norm(left[n] - right[n]) / max(np.linalg.norm(right[n]), 1e-12))
        for n in left
    )
