"""Low-rank forms: the least factors whose product is the same, to float32's precision, or, where
that takes too many, nearly the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.limits import limits

MAX_LOSS = 0.05
"""What may be lost by keeping to `limits().rank`, relative to the update's Frobenius norm."""
MAX_SIDE = 2048
"""Largest least side of a dense update that is taken apart; beyond it that takes minutes."""
_TAIL = 1e-7
"""What may be left out, relative to the Frobenius norm; a tenth of what reading a file may lose."""


class Pair(NamedTuple):
    """B (d_out, r) @ A (r, d_in), float64."""

    B: np.ndarray
    A: np.ndarray

    @property
    def rank(self) -> int:
        return self.A.shape[0]


class Short(NamedTuple):
    """Factors that stand for a dense update, and how far from it they are (relative, Frobenius)."""

    pair: Pair
    loss: float = 0.0


def shorten(path: str, update: np.ndarray | Pair) -> Short:
    """Factors of an update of the module at `path`, of rank `limits().rank` at most.

    Args:
        update: (d_out, d_in) dense, or factors of any rank.

    Raises:
        InvalidAdapter: it is too large, or that rank loses more than MAX_LOSS of it.
    """
    d_out, d_in = update.shape if isinstance(update, np.ndarray) else _sides(update)
    rank = min(d_out, d_in) if isinstance(update, np.ndarray) else update.rank
    if min(d_out, d_in, rank) > MAX_SIDE:
        raise InvalidAdapter(
            f"The update of '{path}' is {d_out}×{d_in} and of full rank; at most {MAX_SIDE} is "
            "taken apart here. Extract a LoRA from it with the program that trained it.",
            "caps",
        )
    pair = factorise(update) if isinstance(update, np.ndarray) else shortest(update)
    most = limits().rank
    if pair.rank <= most:
        return Short(pair)
    sizes = np.sum(pair.B**2, axis=0)  # singular values, largest first
    loss = float(np.sqrt(np.sum(sizes[most:] ** 2) / np.sum(sizes**2)))
    if loss > MAX_LOSS:
        raise InvalidAdapter(
            f"The update of '{path}' has rank {pair.rank}; its {most} largest directions leave "
            f"out {loss:.0%} of it, more than the {MAX_LOSS:.0%} that is allowed. Extract a LoRA "
            "from it with the program that trained it.",
            "caps",
        )
    return Short(Pair(pair.B[:, :most], pair.A[:most]), loss)


def _sides(pair: Pair) -> tuple[int, int]:
    return pair.B.shape[0], pair.A.shape[1]


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
