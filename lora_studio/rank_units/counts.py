"""How many clusters a module gets: where the curve of what clusters leave bends, or where more of
them help most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lora_studio.rank_units.cluster import cluster_gram
from lora_studio.rank_units.unit import UnitPool

POINTS = 10
"""Numbers of clusters that are tried in a module."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Inertia of k-means with ks clusters, ascending from 1 to every unit on its own; it falls."""

    ks: np.ndarray
    inertia: np.ndarray


def curve(pool: UnitPool, seed: int = 0) -> Curve:
    """Tries about POINTS numbers of clusters, evenly spaced on a logarithmic scale."""
    gram, n = pool.gram(), len(pool)
    ks = np.unique(np.round(np.geomspace(1, n, min(n, POINTS))).astype(int))
    found = [
        cluster_gram(gram, int(k), seed, projective=pool.projective, mass=pool.mass).inertia
        for k in ks
    ]
    return Curve(ks, np.minimum.accumulate(found))


def elbow(curves: Mapping[str, Curve]) -> tuple[int, str]:
    """The number of clusters farthest below the straight line from one cluster to all units, on the
    mean of the modules' curves, and the evidence in a sentence."""
    most = max(int(c.ks[-1]) for c in curves.values())
    ks = np.unique(np.concatenate([c.ks for c in curves.values()]))
    left = np.zeros(len(ks))
    for c in curves.values():
        left += np.interp(ks, c.ks, c.inertia) / (c.inertia[0] or 1.0) / len(curves)
    line = 1 - (ks - 1) / max(most - 1, 1)
    k = int(ks[np.argmax(line - left)])
    shown = sorted({0, len(ks) - 1, *np.linspace(0, len(ks) - 1, 7).astype(int).tolist()})
    shown = sorted({*shown, int(np.flatnonzero(ks == k)[0])})
    listed = ", ".join(f"{ks[i]}: {left[i]:.0%}" for i in shown)
    return k, (
        f"Rank {k} was chosen where the curve bends. Of the spread of the units around one centre "
        f"so much is left with so many clusters: {listed}."
    )


def shared_out(curves: Mapping[str, Curve], total: int) -> dict[str, int]:
    """Clusters for each module, `total` together: each next one goes where it takes away the
    largest share of a module's inertia, along the lower convex hulls of the curves. At least 1, at
    most all units. Shares, since the size of the factors says more of how they were initialised
    than of what they do."""
    counts = dict.fromkeys(curves, 1)
    steps = [(-fall, name, width) for name, c in curves.items() for fall, width in _hull(c)]
    room = max(total - len(curves), 0)
    for _, name, width in sorted(steps):
        given = min(width, room)
        counts[name] += given
        room -= given
    return counts


def _hull(c: Curve) -> list[tuple[float, int]]:
    """(share that falls per cluster, clusters) of each edge of the lower hull, steepest first."""
    edges: list[tuple[float, int]] = []
    at = 0
    while at < len(c.ks) - 1:
        falls = (c.inertia[at] - c.inertia[at + 1 :]) / (c.ks[at + 1 :] - c.ks[at])
        to = at + 1 + int(np.argmax(falls))
        edges.append((float(falls.max()) / (c.inertia[0] or 1.0), int(c.ks[to] - c.ks[at])))
        at = to
    return edges
