"""What stands for a cluster of rank units in a merge: their mean, or their best rank-one term."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lora_studio.rank_units.cluster import Clustering
from lora_studio.rank_units.unit import UnitPool

Centroid = Literal["mean", "rank_one"]
Norm = Literal["inf", "l2"]
POWER_STEPS = 50


def centroids(
    pool: UnitPool, clustering: Clustering, centroid: Centroid, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """A (k, d_in) and B (k, d_out): one unit for each cluster, reweighted.

    "mean" is the paper's: c = mean_i [a_i; b_i], times mean_i |[a_i; b_i]| / |c|. "rank_one" is the
    best rank-one approximation sigma b a^T of mean_i b_i a_i^T, which knows no signs or scales of
    units, times mean_i |a_i| |b_i| / (|sigma a| |b|). Means are weighted by mass; of n units of
    mean mass m the result counts m times, so that a copy at half weight counts half.
    """
    member = np.equal(clustering.labels[:, None], np.arange(clustering.k))  # (n, k)
    share = member * pool.mass[:, None]
    weight = share.sum(0) / member.sum(0)  # (k,)
    share /= share.sum(0)
    if centroid == "mean":
        ours = theirs = (share * clustering.signs[:, None]).T
        target = share.T @ _longest(lengths(pool.A, norm), lengths(pool.B, norm), norm)
    else:
        ours, theirs = rank_one(*pool.grams(), share)
        target = share.T @ (lengths(pool.A, norm) * lengths(pool.B, norm))
    a, b = ours.astype(np.float32) @ pool.A, theirs.astype(np.float32) @ pool.B
    left, right = lengths(a, norm), lengths(b, norm)
    found = _longest(left, right, norm) if centroid == "mean" else left * right
    factor = np.divide(target, found, out=np.zeros_like(target), where=found > 0)
    factor = (factor if centroid == "mean" else np.sqrt(factor)) * np.sqrt(weight)
    a *= factor.astype(np.float32)[:, None]
    b *= factor.astype(np.float32)[:, None]
    return a, b


def rank_one(
    gram_a: np.ndarray, gram_b: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (k, n) of the leading singular vectors of each M_c = sum_i share_ic b_i a_i^T:
    rows of A times the first give sigma^(1/2) v, of B times the second sigma^(1/2) u.

    Power iteration on M^T M among the units' inner products; it starts from the strongest unit.
    """
    size = share * np.sqrt(np.diagonal(gram_a) * np.diagonal(gram_b))[:, None]
    right = np.equal(size.argmax(0)[:, None], np.arange(len(size))).astype(np.float64)  # (k, n)
    left = np.zeros_like(right)
    for _ in range(POWER_STEPS):
        right /= _root(right, gram_a)
        left = share.T * (right @ gram_a)
        right = share.T * (left @ gram_b)
    right /= _root(right, gram_a)
    left = share.T * (right @ gram_a)
    sigma = _root(left, gram_b)
    return right * np.sqrt(sigma), left / np.sqrt(sigma)


def lengths(rows: np.ndarray, norm: Norm) -> np.ndarray:
    """(n,) norms of the rows, float64."""
    if norm == "l2":
        return np.linalg.norm(rows, axis=1).astype(np.float64)
    return np.maximum(rows.max(1), -rows.min(1)).astype(np.float64)


def _longest(left: np.ndarray, right: np.ndarray, norm: Norm) -> np.ndarray:
    """Norm of [a; b] from those of a and b."""
    return np.hypot(left, right) if norm == "l2" else np.maximum(left, right)


def _root(coefficients: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """(k, 1) length of each combination; 1 for one of no length."""
    squares = np.einsum("kn,kn->k", coefficients @ gram, coefficients)
    return np.sqrt(np.where(squares > 0, squares, 1.0))[:, None]
