"""LoRA-LEGO's k-means over rank units, run in Gram coordinates: exact, and independent of width.

Starts are drawn from a content-sorted order, so neither the order of adapters nor of units matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lora_studio.rank_units.unit import UnitPool

RESTARTS = 4
MAX_STEPS = 300
SIGN_NOISE = 1e-6
"""Orthogonal units have no sign towards each other: beneath this share they keep their own."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Result of k-means.

    Args:
        labels: (n,) cluster of each unit, 0 .. k-1, every cluster non-empty.
        signs: (n,) +1 or -1, the sign under which a unit joins its cluster (projective pools).
        inertia: sum of squared distances to the centroids.
    """

    labels: np.ndarray
    signs: np.ndarray
    inertia: float

    @property
    def k(self) -> int:
        return int(self.labels.max()) + 1


def cluster(pool: UnitPool, k: int, seed: int = 0) -> Clustering:
    """Clusters the pool's points [a; b] into k groups.

    Minimises the sum of squared distances to centroids (Lloyd, best of a few seeded k-means++
    starts). In projective pools a point's distance is the smaller of those of +s and -s.

    Args:
        k: 1 .. n; larger values mean every unit on its own.
    """
    n = len(pool)
    if k >= n:
        return Clustering(np.arange(n), np.ones(n), 0.0)
    return cluster_points(gram_coordinates(pool.gram()), k, seed, pool.projective)


def gram_coordinates(gram: np.ndarray) -> np.ndarray:
    """(n, q) coordinates with the given inner products: V sqrt(Lambda), q = numerical rank."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(values.max(), 0.0) * 1e-12
    if not keep.any():
        return np.zeros((len(gram), 1))
    return (vectors[:, keep] * np.sqrt(values[keep]))[:, ::-1]


def cluster_points(points: np.ndarray, k: int, seed: int, projective: bool = False) -> Clustering:
    """Like `cluster`, for explicit (n, d) points with k < n."""
    rng = np.random.default_rng(seed)
    order = np.argsort(-np.round(np.linalg.norm(points, axis=1), 9), kind="stable")
    best: Clustering | None = None
    for _ in range(RESTARTS):
        starts = order[_plus_plus(points[order], k, rng, projective)]
        found = _lloyd(points, points[starts], projective)
        if best is None or found.inertia < best.inertia * (1 - 1e-9):
            best = found
    assert best is not None
    return best


def _distances(points: np.ndarray, centres: np.ndarray, projective: bool) -> np.ndarray:
    """(n, k) squared distances, and under `projective` the nearer of both signs."""
    dots = points @ centres.T
    near = np.abs(dots) if projective else dots
    squares = (points**2).sum(1)[:, None] + (centres**2).sum(1)[None, :]
    return np.maximum(squares - 2 * near, 0.0)


def _plus_plus(
    points: np.ndarray, k: int, rng: np.random.Generator, projective: bool
) -> np.ndarray:
    """Indices of k starts, each drawn with probability proportional to its squared distance."""
    chosen = [int(rng.integers(len(points)))]
    nearest = _distances(points, points[chosen], projective)[:, 0]
    while len(chosen) < k:
        total = nearest.sum()
        if total > 0:
            pick = int(np.searchsorted(np.cumsum(nearest), rng.random() * total, side="right"))
            pick = min(pick, len(points) - 1)
        else:
            pick = next(i for i in range(len(points)) if i not in chosen)
        chosen.append(pick)
        nearest = np.minimum(nearest, _distances(points, points[[pick]], projective)[:, 0])
        nearest[chosen] = 0.0
    return np.array(chosen)


def _lloyd(points: np.ndarray, centres: np.ndarray, projective: bool) -> Clustering:
    n, k = len(points), len(centres)
    labels = np.full(n, -1)
    signs = np.ones(n)
    scale = float((points**2).sum(1).max())
    for _ in range(MAX_STEPS):
        distances = _distances(points, centres, projective)
        new = _fill_empty(distances.argmin(1), distances, k)
        dots = np.einsum("nd,nd->n", points, centres[new])
        new_signs = np.where(dots < -SIGN_NOISE * scale, -1.0, 1.0) if projective else signs
        if (new == labels).all() and (new_signs == signs).all():
            break
        labels, signs = new, new_signs
        member = np.eye(k)[labels] * signs[:, None]  # (n, k)
        centres = (member.T @ points) / np.bincount(labels, minlength=k)[:, None]
    inertia = float(((points * signs[:, None] - centres[labels]) ** 2).sum())
    return Clustering(labels, signs, inertia)


def _fill_empty(labels: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """Gives each empty cluster the point farthest from its centre that others can spare."""
    labels = labels.copy()
    spare = distances[np.arange(len(labels)), labels]
    for empty in np.flatnonzero(np.bincount(labels, minlength=k) == 0):
        crowded = np.bincount(labels, minlength=k)[labels] > 1
        taken = int(np.where(crowded, spare, -1.0).argmax())
        labels[taken] = empty
        spare[taken] = -1.0
    return labels
