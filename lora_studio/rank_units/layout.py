"""Placing units on a plane: the two main axes of the very coordinates that were clustered."""

from __future__ import annotations

import numpy as np

from lora_studio.rank_units.cluster import Clustering, gram_coordinates
from lora_studio.rank_units.unit import UnitPool


def layout(
    pool: UnitPool, clustering: Clustering, among: int | None = None
) -> tuple[np.ndarray, float]:
    """2-D positions of the units and the share of variance the two axes explain.

    Principal components of the centred Gram coordinates; units enter with the sign under which
    they joined their cluster. Axes are oriented so that the strongest unit lies to the upper right.

    Args:
        among: the axes are those of the first so many units, all by default, and the others are
            placed among them.

    Returns:
        (n, 2) positions scaled into [0, 1] with a common factor, and a number in [0, 1].
    """
    points = gram_coordinates(pool.gram()) * clustering.signs[:, None]
    own = slice(among)
    centred = points - points[own].mean(0)
    _, s, axes = np.linalg.svd(centred[own], full_matrices=False)
    plane = np.zeros((len(points), 2))
    used = min(2, len(s))
    plane[:, :used] = centred @ axes[:used].T
    strongest = int(np.argmax(np.linalg.norm(plane[own], axis=1)))
    plane *= np.where(plane[strongest] < 0, -1.0, 1.0)
    total = float((s**2).sum())
    explained = float((s[:used] ** 2).sum()) / total if total > 0 else 1.0
    span = float(np.ptp(plane, axis=0).max()) or 1.0
    middle = (plane.max(0) + plane.min(0)) / 2
    return (plane - middle) / span + 0.5, explained
