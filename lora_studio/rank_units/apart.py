"""Clusters that hold at most one unit of each adapter, and pools without near-copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lora_studio.rank_units.cluster import Clustering, cluster_gram
from lora_studio.rank_units.unit import UnitPool

MAX_STEPS = 100


def cluster_apart(pool: UnitPool, k: int, seed: int = 0) -> Clustering:
    """K-means in which the units of one adapter all lie in different clusters.

    From the clusters of plain k-means on, each step gives every adapter's units to the centres at
    the least total squared distance (an assignment), then moves the centres.

    Args:
        k: at least the number of units of any adapter.
    """
    gram = pool.gram()
    start = cluster_gram(gram, k, seed, projective=pool.projective, mass=pool.mass)
    labels, signs, cost = start.labels, start.signs, np.inf
    for _ in range(MAX_STEPS):
        centres, dots = _centres(gram, pool.mass, labels, signs, k)
        near = np.abs(dots) if pool.projective else dots
        distances = np.diagonal(gram)[:, None] + centres[None, :] - 2 * near  # (n, k)
        new = _assigned(distances, pool.owner, pool.mass)
        total = float(pool.mass @ distances[np.arange(len(new)), new])
        if total >= cost * (1 - 1e-12):
            break
        cost, labels = total, new
        if pool.projective:
            signs = np.where(dots[np.arange(len(new)), new] < 0, -1.0, 1.0)
    used, labels = np.unique(labels, return_inverse=True)
    centres, dots = _centres(gram, pool.mass, labels, signs, len(used))
    mine = signs * dots[np.arange(len(labels)), labels]
    inertia = pool.mass @ (np.diagonal(gram) + centres[labels] - 2 * mine)
    return Clustering(labels, signs, max(float(inertia), 0.0))


def without_copies(pool: UnitPool, cosine: float) -> UnitPool:
    """The pool with one unit for each group of near-copies: the strongest, at their mean mass.

    Units are near-copies of a stronger one where the cosine of their updates, cos(a, a') times
    cos(b, b'), is at least `cosine`.
    """
    gram_a, gram_b = pool.grams()
    size = np.sqrt(np.diagonal(gram_a) * np.diagonal(gram_b))
    sizes = size[:, None] * size[None, :]
    alike = np.divide(gram_a * gram_b, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    head = np.full(len(pool), -1)
    for unit in np.argsort(-pool.energy, kind="stable"):
        if head[unit] < 0:
            head[(head < 0) & (alike[unit] >= cosine)] = unit
            head[unit] = unit
    kept = np.unique(head)
    count = np.bincount(head, minlength=len(pool))[kept]
    mass = np.bincount(head, weights=pool.mass, minlength=len(pool))[kept]
    return replace(pool.only(kept), mass=mass / count)


def _centres(
    gram: np.ndarray, mass: np.ndarray, labels: np.ndarray, signs: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared lengths of the centres (k,), inner products of units and centres (n, k)."""
    share = np.equal(labels[:, None], np.arange(k)) * mass[:, None]
    share = share / np.maximum(share.sum(0), 1e-300) * signs[:, None]
    dots = gram @ share
    return np.einsum("nk,nk->k", share, dots), dots


def _assigned(distances: np.ndarray, owner: np.ndarray, mass: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    labels = np.zeros(len(owner), int)
    for one in np.unique(owner):
        units = np.flatnonzero(owner == one)
        rows, columns = linear_sum_assignment(distances[units] * mass[units, None])
        labels[units[rows]] = columns
    return labels
