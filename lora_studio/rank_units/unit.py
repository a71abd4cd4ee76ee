"""Rank units: the rank-one terms (row of A, column of B), LoRA-LEGO's minimal semantic units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_studio.adapter import LoraFactors

Basis = Literal["raw", "svd"]
Gauge = Literal["raw", "balanced"]


@dataclass(frozen=True, eq=False)
class UnitPool:
    """All units of one module, from several adapters.

    Args:
        A: (n, d_in) rows; B: (n, d_out) columns of B, as rows. Scalings and weights are folded in.
        owner: (n,) index of the adapter a unit comes from.
        index: (n,) rank index of the unit inside its adapter.
        ranks: rank of each adapter that has the module.
        projective: whether a unit and its double negation (-a, -b) count as the same point.
    """

    A: np.ndarray
    B: np.ndarray
    owner: np.ndarray
    index: np.ndarray
    ranks: tuple[int, ...]
    projective: bool

    def __len__(self) -> int:
        return self.A.shape[0]

    @property
    def energy(self) -> np.ndarray:
        """(n,) norm of each unit's rank-one update, |a| |b|."""
        return np.linalg.norm(self.A, axis=1) * np.linalg.norm(self.B, axis=1)

    def gram(self) -> np.ndarray:
        """(n, n) inner products of the points [a; b], in float64."""
        a, b = self.A.astype(np.float64), self.B.astype(np.float64)
        return a @ a.T + b @ b.T


def pool_units(
    modules: Sequence[LoraFactors | None],
    weights: Sequence[float] | None = None,
    *,
    basis: Basis = "raw",
    gauge: Gauge = "raw",
) -> UnitPool:
    """Pools the units of one module over adapters.

    Args:
        modules: one entry per adapter; None where the adapter lacks the module.
        weights: one per adapter; sqrt(|w|) goes into each factor, the sign into B. Zero drops it.
        basis: "raw" takes the rows of A as they are (the paper); "svd" takes singular triplets, so
            that adapters equal up to a rotation of the rank space have equal units.
        gauge: "raw" clusters points as they are (the paper); "balanced" first sets |a| = |b| and
            treats (a, b) and (-a, -b) as one, since both give the same update.
    """
    weights = [1.0] * len(modules) if weights is None else weights
    rows, columns, owner, index, ranks = [], [], [], [], []
    for position, (module, weight) in enumerate(zip(modules, weights, strict=True)):
        if module is None or weight == 0:
            continue
        folded = module.scaled(weight).folded()
        a, b = (folded.A, folded.B.T) if basis == "raw" else _singular_units(folded)
        if gauge == "balanced":
            a, b = _balance(a, b)
        rows.append(a)
        columns.append(b)
        owner.append(np.full(len(a), position))
        index.append(np.arange(len(a)))
        ranks.append(module.rank)
    if not rows:
        raise ValueError("no adapter with a non-zero weight has this module")
    return UnitPool(
        A=np.concatenate(rows),  # (n, d_in)
        B=np.concatenate(columns),  # (n, d_out)
        owner=np.concatenate(owner),
        index=np.concatenate(index),
        ranks=tuple(ranks),
        projective=gauge == "balanced",
    )


def factored_svd(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thin SVD of b @ a through the small core: U (d_out, q), s (q,), Vt (q, d_in), q <= R.

    QR of both factors, then an SVD of the R x R core; the dense product is never formed.
    """
    q_b, r_b = np.linalg.qr(b.astype(np.float64))  # (d_out, q), (q, R)
    q_a, r_a = np.linalg.qr(a.T.astype(np.float64))  # (d_in, p), (p, R)
    u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)  # core (q, p)
    return q_b @ u, s, vt @ q_a.T


def _singular_units(module: LoraFactors) -> tuple[np.ndarray, np.ndarray]:
    u, s, vt = factored_svd(module.A, module.B)
    root = np.sqrt(s[: module.rank])[:, None]
    a, b = root * vt[: module.rank], root * u.T[: module.rank]
    return a.astype(np.float32), b.astype(np.float32)


def _balance(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same updates with |a| = |b| and the largest entry of a positive; dead units become 0."""
    norm_a = np.linalg.norm(a, axis=1, keepdims=True)
    norm_b = np.linalg.norm(b, axis=1, keepdims=True)
    alive = (norm_a > 0) & (norm_b > 0)
    factor = np.sqrt(np.divide(norm_b, norm_a, out=np.ones_like(norm_a), where=alive))
    peak = np.take_along_axis(a, np.abs(a).argmax(1, keepdims=True), axis=1)
    factor *= np.where(peak < 0, np.float32(-1), np.float32(1))
    return np.where(alive, a * factor, 0.0), np.where(alive, b / factor, 0.0)
