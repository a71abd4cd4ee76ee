"""Core Space: the updates of all adapters as small matrices in one pair of orthonormal bases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lora_studio.composition.merging.budget import (
    NOTHING,
    Budget,
    Spectrum,
    merge_within,
    of_several,
)
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.method import Inputs
from lora_studio.composition.plan import Merged


@dataclass(frozen=True, eq=False)
class Core:
    """One module of several adapters: w_t s_t B_t A_t = u @ cores[t] @ v.T, without loss.

    Args:
        u: (d_out, p) left singular vectors of [B_1 ... B_T]; v: (d_in, q) right singular vectors of
            [A_1; ...; A_T], the factors folded, largest singular value first. p, q <= sum of ranks.
        cores: (p, q) each.
    """

    u: np.ndarray
    v: np.ndarray
    cores: tuple[np.ndarray, ...]

    @property
    def total(self) -> np.ndarray:
        """(p, q) the weighted sum of all updates."""
        return np.sum(self.cores, axis=0)

    def spectrum(self, merged: np.ndarray) -> Spectrum:
        """The singular triplets of u @ merged @ v.T."""
        x, s, yt = np.linalg.svd(merged, full_matrices=False)
        return Spectrum(self.u @ x, s, yt @ self.v.T, float(s @ s))


def core_of(stack: Stack) -> Core:
    """The module's updates in Core Space. The bases do not look at the weights."""
    folded = [m.folded() for m in stack.modules]
    u = left_basis(np.concatenate([m.B for m in folded], axis=1))
    v = left_basis(np.concatenate([m.A for m in folded]).T)
    cores = [
        weight * (u.T @ m.B.astype(np.float64)) @ (m.A.astype(np.float64) @ v)
        for m, weight in zip(folded, stack.weights, strict=True)
    ]
    return Core(u, v, tuple(cores))


def left_basis(columns: np.ndarray) -> np.ndarray:
    """(d, q) left singular vectors of (d, n) columns that carry anything, at least one."""
    q, r = np.linalg.qr(columns.astype(np.float64))
    x, s, _ = np.linalg.svd(r)
    return q @ x[:, : max(int((s > NOTHING * s[0]).sum()), 1)]


def polar(columns: np.ndarray) -> np.ndarray:
    """(d, n) the nearest matrix with orthonormal columns, U V^T of the SVD; directions that carry
    nothing are left out, so that equal columns share one direction."""
    q, r = np.linalg.qr(columns)
    x, s, yt = np.linalg.svd(r, full_matrices=False)
    alive = s > NOTHING * s[0]
    return q @ (x[:, alive] @ yt[alive])


def merge_cores(
    inputs: Inputs,
    merge: Callable[[Core, Sequence[int]], Spectrum],
    budget: Budget,
    scale: float,
    auto_scale: bool,
) -> Merged:
    """Merges each module in Core Space; what only one adapter has is kept as it is.

    Args:
        merge: the core and the adapters' ranks -> the merged update.
    """

    def of(stack: Stack, most: int | None) -> Spectrum:
        return merge(core_of(stack), stack.ranks)

    return merge_within(inputs, of_several(of), budget, scale, auto_scale)
