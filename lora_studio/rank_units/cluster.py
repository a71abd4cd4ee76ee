"""LoRA-LEGO's k-means over rank units, run on their inner products: exact, independent of width.

Starts are drawn from a content-sorted order, so neither the order of adapters nor of units matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lora_studio.rank_units.unit import UnitPool

RESTARTS = 4
MAX_STEPS = 300
SIGN_NOISE = 1e-5
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

    Minimises the sum of squared distances to centroids, each unit counted `pool.mass` times
    (Lloyd, best of a few seeded k-means++ starts). In projective pools a point's distance is the
    smaller of those of +s and -s.

    Args:
        k: 1 .. n; larger values mean every unit on its own.
    """
    return cluster_gram(pool.gram(), k, seed, projective=pool.projective, mass=pool.mass)


def cluster_gram(
    gram: np.ndarray,
    k: int,
    seed: int = 0,
    *,
    projective: bool = False,
    mass: np.ndarray | None = None,
) -> Clustering:
    """Like `cluster`, from the (n, n) inner products of the points alone."""
    n = len(gram)
    if k >= n:
        return Clustering(np.arange(n), np.ones(n), 0.0)
    means = _Means(gram, np.ones(n) if mass is None else mass, projective)
    return means.best(means.starts(k, np.random.default_rng(seed)))


def gram_coordinates(gram: np.ndarray) -> np.ndarray:
    """(n, q) coordinates with the given inner products: V sqrt(Lambda), q = numerical rank."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(values.max(), 0.0) * 1e-12
    if not keep.any():
        return np.zeros((len(gram), 1))
    return (vectors[:, keep] * np.sqrt(values[keep]))[:, ::-1]


@dataclass(frozen=True, eq=False)
class _Means:
    """K-means of n points known by their inner products, all restarts side by side (axis t)."""

    gram: np.ndarray
    mass: np.ndarray
    projective: bool

    @property
    def squares(self) -> np.ndarray:
        return np.diagonal(self.gram)

    def near(self, dots: np.ndarray) -> np.ndarray:
        return np.abs(dots) if self.projective else dots

    def starts(self, k: int, rng: np.random.Generator) -> np.ndarray:
        """(t, k) indices: each drawn with probability proportional to mass and squared distance to
        those before, from the points ordered by length."""
        order = np.argsort(-np.round(np.sqrt(np.maximum(self.squares, 0.0)), 9), kind="stable")
        apart = self.squares[:, None] + self.squares[None, :] - 2 * self.near(self.gram)
        np.fill_diagonal(apart, 0.0)
        apart = np.maximum(apart, 0.0)[np.ix_(order, order)]  # (n, n)
        draws = [(int(rng.integers(len(order))), rng.random(k - 1)) for _ in range(RESTARTS)]
        chosen = np.array([[first] for first, _ in draws])  # (t, 1)
        nearest = apart[chosen[:, 0]]  # (t, n)
        for shares in np.stack([share for _, share in draws], axis=1):
            sums = np.cumsum(nearest * self.mass[order], axis=1)
            pick = (sums <= (shares * sums[:, -1])[:, None]).sum(1)  # (t,)
            for t in np.flatnonzero(pick >= len(order)):  # whatever is left coincides
                pick[t] = np.setdiff1d(np.arange(len(order)), chosen[t])[0]
            chosen = np.concatenate([chosen, pick[:, None]], axis=1)
            nearest = np.minimum(nearest, apart[pick])
        return order[chosen]

    def best(self, starts: np.ndarray) -> Clustering:
        """Lloyd's steps from each row of starts; the clustering of least inertia."""
        restarts, k = starts.shape
        labels = np.full((restarts, len(self.mass)), -1)
        signs = np.ones(labels.shape)
        dots = self.gram[:, starts].transpose(1, 0, 2)  # (t, n, k) of points and centres
        length = self.squares[starts]  # (t, k) of centres, squared
        moving = np.arange(restarts)
        least = SIGN_NOISE * float(self.squares.max())
        for _ in range(MAX_STEPS):
            distances = length[moving][:, None, :] - 2 * self.near(dots[moving])
            new = _filled(distances.argmin(2), distances + self.squares[:, None], k)
            mine = np.take_along_axis(dots[moving], new[:, :, None], 2)[:, :, 0]
            turned = np.where(mine < -least, -1.0, 1.0) if self.projective else signs[moving]
            still = (new == labels[moving]).all(1) & (turned == signs[moving]).all(1)
            labels[moving], signs[moving] = new, turned
            moving = moving[~still]
            if not len(moving):
                break
            dots[moving], length[moving] = self._centres(labels[moving], signs[moving], k)
        mine = np.take_along_axis(dots, labels[:, :, None], 2)[:, :, 0]
        spread = self.squares + np.take_along_axis(length, labels, 1) - 2 * signs * mine
        inertia = np.maximum(spread @ self.mass, 0.0)  # (t,)
        first = int(np.flatnonzero(inertia <= inertia.min() * (1 + 1e-9))[0])
        return Clustering(labels[first], signs[first], float(inertia[first]))

    def _centres(
        self, labels: np.ndarray, signs: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inner products of points and centres (t, n, k), squared lengths of centres (t, k)."""
        share = np.equal(labels[:, :, None], np.arange(k)) * self.mass[:, None]  # (t, n, k)
        share /= share.sum(1, keepdims=True)
        share *= signs[:, :, None]
        dots = np.matmul(self.gram, share)
        return dots, np.einsum("tnk,tnk->tk", share, dots)


def _filled(labels: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """Gives each empty cluster the point farthest from its centre that others can spare."""
    for t, row in enumerate(labels):
        counts = np.bincount(row, minlength=k)
        if counts.all():
            continue
        spare = distances[t, np.arange(len(row)), row]
        for empty in np.flatnonzero(counts == 0):
            crowded = np.bincount(row, minlength=k)[row] > 1
            taken = int(np.where(crowded, spare, -np.inf).argmax())
            row[taken] = empty
            spare[taken] = -np.inf
    return labels
