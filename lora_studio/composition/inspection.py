"""The figures of a dry run: what a merge does to its sources, read from the factors alone, and
what a schedule will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.composition.schedule import Scheduled

SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Conflict:
    """How much the sources' updates cancel each other.

    Args:
        total: share of magnitude that cancels, 0 (never opposed) .. 1 (all of it).
        by_module: the same for each module that several sources have.
    """

    total: float
    by_module: dict[str, float]


def sign_conflict(adapters: Sequence[Adapter], weights: Sequence[float]) -> Conflict:
    """Entry-wise cancellation of the weighted updates, 1 - |sum_i D_i| / sum_i |D_i|.

    Computed exactly on up to 64 evenly spaced output rows of each module, so that no dense update
    is formed. Independent adapters give about 1 - 1/sqrt(n); opposed copies give 1.
    """
    kept, lost, found = 0.0, 0.0, {}
    for name in sorted({name for adapter in adapters for name in adapter.factors}):
        present = [
            a.factors[name].scaled(w)
            for a, w in zip(adapters, weights, strict=True)
            if name in a.factors
        ]
        if len(present) < 2:
            continue
        rows = np.linspace(0, present[0].d_out - 1, min(SAMPLED_ROWS, present[0].d_out)).astype(int)
        total = np.zeros((len(rows), present[0].d_in), np.float32)
        magnitude = np.zeros_like(total)
        for module in present:
            part = np.float32(module.scaling) * (module.B[rows] @ module.A)
            total += part
            magnitude += np.abs(part)
        alive, size = float(np.abs(total).sum()), float(magnitude.sum())
        found[name] = 1 - alive / size if size else 0.0
        kept, lost = kept + alive, lost + size - alive
    return Conflict(lost / (kept + lost) if kept + lost else 0.0, found)


def norm_ratio(merged: Adapter, sources: Sequence[Adapter]) -> float:
    """Norm of the merge over the mean norm of its sources."""
    mean = float(np.mean([source.norm() for source in sources]))
    return merged.norm() / mean if mean else 0.0


def peft_bytes(adapter: Adapter) -> int:
    """Size of the saved float32 weights, in bytes, without the small header."""
    return 4 * adapter.parameters


def scheduled_figures(plan: Scheduled) -> dict[str, Any]:
    """{scheduled, passes, branches, curves {adapter id: [21 strengths]}, notes}, as JSON has it.

    An adapter that acts with a choice of units keeps its own id here.
    """
    curves: dict[str, list[float]] = {}
    for name, curve in plan.curves.items():
        own = name.partition("#")[0]
        curves[own] = [
            a + b for a, b in zip(curves.get(own, [0.0] * len(curve)), curve, strict=True)
        ]
    return {
        "scheduled": True,
        "passes": plan.passes,
        "branches": len(plan.branches),
        "curves": curves,
        "notes": list(plan.notes),
    }
