"""Rank units: the rank-one terms (row of A, column of B), LoRA-LEGO's minimal semantic units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lora_studio.adapter import LoraFactors

Basis = Literal["raw", "svd"]
Gauge = Literal["raw", "balanced"]

_Basis = tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]
"""Columns as Q @ core: how to multiply by Q (d, q) from the left, and core (q, R)."""
_SLIM = 4
"""Factors this many times longer than their rank count as long."""


@dataclass(frozen=True, eq=False)
class UnitPool:
    """All units of one module, from several adapters.

    Args:
        A: (n, d_in) rows; B: (n, d_out) columns of B, as rows. Scalings are folded in, of weights
            only the sign, on B.
        owner: (n,) index of the adapter a unit comes from.
        index: (n,) rank index of the unit inside its adapter.
        ranks: rank of each adapter that has the module.
        projective: whether a unit and its double negation (-a, -b) count as the same point.
        mass: (n,) |weight| of the unit's adapter: how much it counts.
    """

    A: np.ndarray
    B: np.ndarray
    owner: np.ndarray
    index: np.ndarray
    ranks: tuple[int, ...]
    projective: bool
    mass: np.ndarray

    def __len__(self) -> int:
        return self.A.shape[0]

    @property
    def energy(self) -> np.ndarray:
        """(n,) norm of each unit's weighted rank-one update, |w| |a| |b|."""
        return self.mass * np.linalg.norm(self.A, axis=1) * np.linalg.norm(self.B, axis=1)

    def grams(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, n) inner products of the rows of A and of those of B, float64 of float32 sums."""
        return (self.A @ self.A.T).astype(np.float64), (self.B @ self.B.T).astype(np.float64)

    def gram(self) -> np.ndarray:
        """(n, n) inner products of the points [a; b]."""
        a, b = self.grams()
        return a + b

    def only(self, kept: np.ndarray) -> UnitPool:
        """The pool of these units alone; `ranks` stay."""
        parts = {name: getattr(self, name)[kept] for name in ("A", "B", "owner", "index", "mass")}
        return replace(self, **parts)


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
        weights: one per adapter; |w| becomes the mass of its units, the sign goes into B. Zero
            drops it.
        basis: "raw" takes the rows of A as they are (the paper); "svd" takes singular triplets, so
            that adapters equal up to a rotation of the rank space have equal units.
        gauge: "raw" clusters points as they are (the paper); "balanced" first sets |a| = |b| and
            treats (a, b) and (-a, -b) as one, since both give the same update.
    """
    weights = [1.0] * len(modules) if weights is None else weights
    rows, columns, owner, index, ranks, mass = [], [], [], [], [], []
    for position, (module, weight) in enumerate(zip(modules, weights, strict=True)):
        if module is None or weight == 0:
            continue
        folded = module.scaled(1.0 if weight > 0 else -1.0).folded()
        a, b = (folded.A, folded.B.T) if basis == "raw" else _singular_units(folded)
        if gauge == "balanced":
            a, b = _balance(a, b)
        rows.append(a)
        columns.append(b)
        owner.append(np.full(len(a), position))
        index.append(np.arange(len(a)))
        ranks.append(module.rank)
        mass.append(np.full(len(a), abs(weight), np.float64))
    if not rows:
        raise ValueError("no adapter with a non-zero weight has this module")
    return UnitPool(
        A=np.concatenate(rows),  # (n, d_in)
        B=np.concatenate(columns),  # (n, d_out)
        owner=np.concatenate(owner),
        index=np.concatenate(index),
        ranks=tuple(ranks),
        projective=gauge == "balanced",
        mass=np.concatenate(mass),
    )


def factored_svd(
    a: np.ndarray, b: np.ndarray, rank: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thin SVD of b @ a through the small core: U (d_out, q), s (q,), Vt (q, d_in), q <= R.

    Orthonormal bases of both factors, then an SVD of the R x R core; the dense product is never
    formed. Where the factors are long, the bases come from their (R, R) inner products, which is
    ten times faster than QR and leaves out what lies beneath 1e-6 of the largest direction.

    Args:
        rank: only so many of the largest directions.
    """
    bases = _inner_bases if _SLIM * a.shape[0] <= min(a.shape[1], b.shape[0]) else _qr_bases
    (basis_b, core_b), (basis_a, core_a) = bases(a, b)
    u, s, vt = np.linalg.svd(core_b @ core_a.T, full_matrices=False)  # core (q, p)
    return basis_b(u[:, :rank]), s[:rank], basis_a(vt[:rank].T).T


def _qr_bases(a: np.ndarray, b: np.ndarray) -> tuple[_Basis, _Basis]:
    q_b, r_b = np.linalg.qr(b.astype(np.float64))  # (d_out, q), (q, R)
    q_a, r_a = np.linalg.qr(a.T.astype(np.float64))  # (d_in, p), (p, R)
    return (lambda u: q_b @ u, r_b), (lambda v: q_a @ v, r_a)


def _inner_bases(a: np.ndarray, b: np.ndarray) -> tuple[_Basis, _Basis]:
    """Of the units balanced to |a_i| = |b_i|, so that what is left out is small in the product."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norm_a, norm_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0)
    alive = (norm_a > 0) & (norm_b > 0)
    even = np.sqrt(np.divide(norm_b, norm_a, out=np.zeros_like(norm_a), where=alive))
    a *= even[:, None]
    b *= np.divide(1.0, even, out=np.zeros_like(even), where=even > 0)
    return _inner_basis(b, b.T @ b), _inner_basis(a.T, a @ a.T)


def _inner_basis(columns: np.ndarray, gram: np.ndarray) -> _Basis:
    """columns = Q @ core with Q = columns @ V / sqrt(Lambda) orthonormal."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    keep = values > max(float(values[0]), 1e-300) * 1e-12
    keep[0] = True
    root = np.sqrt(np.maximum(values[keep], 1e-300))
    turn = vectors[:, keep] / root  # (R, q)
    return (lambda u: columns @ (turn @ u)), vectors[:, keep].T * root[:, None]


def _singular_units(module: LoraFactors) -> tuple[np.ndarray, np.ndarray]:
    u, s, vt = factored_svd(module.A, module.B)
    root = np.sqrt(s[: module.rank])[:, None]
    a, b = root * vt[: module.rank], root * u.T[: module.rank]
    return a.astype(np.float32), b.astype(np.float32)


def _balance(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same updates with |a| = |b| and the largest entry of a positive; dead units become 0."""
    norm_a, norm_b = (np.linalg.norm(f, axis=1, keepdims=True) for f in (a, b))
    alive = (norm_a > 0) & (norm_b > 0)
    factor = np.sqrt(np.divide(norm_b, norm_a, out=np.zeros_like(norm_a), where=alive))
    turned = np.where(a.max(1, keepdims=True) < -a.min(1, keepdims=True), -1.0, 1.0)
    factor *= turned.astype(factor.dtype)
    return a * factor, b * np.divide(1.0, factor, out=np.zeros_like(factor), where=factor != 0)
