"""Whose a unit is: the units of a result among those of its sources, and how much of each is owed
to which source, where nobody kept count while it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.rank_units.cluster import Clustering
from lora_studio.rank_units.unit import UnitPool

ALIVE = 1e-6
"""Directions of a factor beneath this share of its longest are rounding."""


def ownership(a: np.ndarray, b: np.ndarray, sources: Sequence[LoraFactors | None]) -> np.ndarray:
    """(sources, n) share of each unit that the geometry gives to each source, each >= 0.

    A unit b a^T lies in what source i reads and writes to the extent p_i = |P_A a|^2 |P_B b|^2 /
    (|a|^2 |b|^2), P_A and P_B the projections on the rows of A_i and the columns of B_i: its
    squared projection on all updates that recombine the units of i. p is the same for the units of
    all sources together, and the shares are p p_i / sum_j p_j. So they add up to p: 1 for what only
    recombines the sources, less by what no source reads or writes. A source without the module has
    none. Where sources overlap they share, whoever came first.

    Args:
        a: (n, d_in) what the units read. b: (n, d_out) what they write.
        sources: the module in each source, None where it has none.
    """
    present = [module for module in sources if module is not None]
    if not present or not len(a):
        return np.zeros((len(sources), len(a)), np.float32)
    found = np.stack(
        [_held(a, b, *((m.A, m.B.T) if m else (a[:0], b[:0]))) for m in sources]
    )  # (sources, n)
    rows = np.concatenate([m.A for m in present])
    columns = np.concatenate([m.B.T for m in present])
    total = found.sum(0)
    fair = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
    return (fair * _held(a, b, rows, columns)).astype(np.float32)


def _held(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n,) p of each unit, for sources that read the rows (r, d_in) and write (r, d_out)."""
    return _inside(a, rows) * _inside(b, columns)


def _inside(vectors: np.ndarray, span: np.ndarray) -> np.ndarray:
    """(n,) share of the squared length of each vector that lies in the span of rows."""
    squares = (vectors.astype(np.float64) ** 2).sum(1)
    if not len(span):
        return np.zeros(len(vectors))
    lengths = np.linalg.norm(span, axis=1, keepdims=True)
    even = span / np.where(lengths > 0, lengths, 1.0)
    _, s, axes = np.linalg.svd(even.astype(np.float64), full_matrices=False)
    axes = axes[s > ALIVE * max(float(s[0]), 1e-300)]  # (q, d)
    held = ((vectors @ axes.T) ** 2).sum(1)
    share = np.divide(held, squares, out=np.zeros_like(held), where=squares > 0)
    return np.clip(share, 0.0, 1.0)


def joined(pool: UnitPool, clustering: Clustering) -> Clustering:
    """The clustering of the pool's first units, and each other unit in the cluster whose centre is
    nearest to it; the centres stay where they are.

    Args:
        pool: the clustered units, then the others.
        clustering: of the first `len(clustering.labels)` units.
    """
    known = len(clustering.labels)
    gram = pool.gram()
    member = np.equal(clustering.labels[:, None], np.arange(clustering.k)).astype(np.float64)
    member *= (pool.mass[:known] * clustering.signs)[:, None]
    member /= np.abs(member).sum(0)  # (known, k): centre = points^T @ member
    dots = gram[known:, :known] @ member  # (others, k)
    length = np.einsum("nk,nk->k", member, gram[:known, :known] @ member)
    labels = (length - 2 * (np.abs(dots) if pool.projective else dots)).argmin(1)
    mine = dots[np.arange(len(labels)), labels]
    signs = np.where((mine < 0) & pool.projective, -1.0, 1.0)
    return replace(
        clustering,
        labels=np.concatenate([clustering.labels, labels]),
        signs=np.concatenate([clustering.signs, signs]),
    )
