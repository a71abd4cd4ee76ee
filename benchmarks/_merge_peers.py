"""How others merge, on two layers: dense sums as mergekit forms them, k-means in the full space as
LoRA-LEGO's ports run it, and PEFT's own `svd`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lora_studio.adapter import Adapter

NARROW = 4
"""PEFT's svd runs on matrices this many times narrower; its time grows with the cube of width."""
STARTS = 10


def dense(adapters: list[Adapter], out: Path) -> float:
    """Seconds to sum all dense updates of each module and write the sums."""
    start = time.perf_counter()
    with out.open("wb") as file:
        for name, first in adapters[0].factors.items():
            total = np.zeros((first.d_out, first.d_in), np.float32)
            for adapter in adapters:
                total += adapter.factors[name].delta()
            file.write(total.data)
    return time.perf_counter() - start


def full_k_means(adapters: list[Adapter], out: Path) -> float:
    """Seconds for LEGO's clusters by k-means over the points themselves, ten starts each."""
    start = time.perf_counter()
    for name, first in adapters[0].factors.items():
        modules = [a.factors[name] for a in adapters]
        points = np.concatenate([np.concatenate([m.A, m.B.T], axis=1) for m in modules])
        best = min(
            (_lloyd(points, first.rank, np.random.default_rng(s)) for s in range(STARTS)),
            key=lambda found: found[0],
        )
        centres = np.stack([points[best[1] == c].mean(0) for c in range(first.rank)])
        assert np.isfinite(centres).all()
    return time.perf_counter() - start


def _lloyd(points: np.ndarray, k: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    centres = points[_plus_plus(points, k, rng)]
    labels = np.full(len(points), -1)
    for _ in range(300):
        distances = _squares(points, centres)
        new = distances.argmin(1)
        if (new == labels).all():
            break
        labels = new
        for c in np.unique(labels):
            centres[c] = points[labels == c].mean(0)
    return float(distances.min(1).sum()), labels


def _plus_plus(points: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    chosen = [int(rng.integers(len(points)))]
    nearest = _squares(points, points[chosen])[:, 0]
    while len(chosen) < k:
        chosen.append(int(rng.choice(len(points), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, _squares(points, points[chosen[-1:]])[:, 0])
    return chosen


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(1)[:, None] + (centres**2).sum(1)[None, :]
    return np.maximum(squares - 2 * points @ centres.T, 0.0)


def peft_svd(adapters: list[Adapter], out: Path) -> float:
    """Seconds of `add_weighted_adapter(combination_type="svd")` on modules `NARROW` times narrower
    than asked, times the cube of that."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    modules = {n.replace(".", "_"): m for n, m in adapters[0].factors.items()}
    layers = {
        n: nn.Linear(m.d_in // NARROW, m.d_out // NARROW, bias=False) for n, m in modules.items()
    }
    rank = adapters[0].max_rank
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(layers), init_lora_weights=False
    )
    names = [str(i) for i in range(len(adapters))]
    model = get_peft_model(nn.ModuleDict(layers), config, names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    start = time.perf_counter()
    model.add_weighted_adapter(names, [1.0] * len(names), "merged", "svd", svd_rank=rank)
    return (time.perf_counter() - start) * NARROW**3


PEERS: dict[str, Callable[[list[Adapter], Path], float]] = {
    "dense sums (as mergekit)": dense,
    "LEGO by plain k-means": full_k_means,
    f"peft svd ({NARROW}x narrower, cubed)": peft_svd,
}
