"""Exact low-rank forms: the least factors whose product is the same, to float32's precision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_TAIL = 1e-7
"""What may be left out, relative to the Frobenius norm; a tenth of what reading a file may lose."""


class Pair(NamedTuple):
    """B (d_out, r) @ A (r, d_in), float64."""

    B: np.ndarray
    A: np.ndarray

    @property
    def rank(self) -> int:
        return self.A.shape[0]


def factorise(matrix: np.ndarray) -> Pair:
    """(d_out, d_in) as the product of factors of its numerical rank, by SVD; both get sqrt(s)."""
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    keep = _numerical_rank(s)
    root = np.sqrt(s[:keep])
    return Pair(u[:, :keep] * root, root[:, None] * vt[:keep])


def shortest(pair: Pair) -> Pair:
    """The same product at its numerical rank: QR of both sides, then SVD of the (r, r) core."""
    if pair.rank > min(pair.B.shape[0], pair.A.shape[1]):
        return factorise(pair.B @ pair.A)
    qb, rb = np.linalg.qr(pair.B)  # (d_out, r), (r, r)
    qa, ra = np.linalg.qr(pair.A.T)  # (d_in, r), (r, r)
    core = factorise(rb @ ra.T)  # (r, r) as (r, k), (k, r)
    return Pair(qb @ core.B, core.A @ qa.T)


def _numerical_rank(s: np.ndarray) -> int:
    """How many of the singular values `s`, largest first, hold all but `_TAIL` of the norm."""
    rest = np.sqrt(np.cumsum(s[::-1] ** 2))[::-1]  # norm of s[i:]
    return max(1, int(np.sum(rest > _TAIL * rest[0])))
