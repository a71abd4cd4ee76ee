"""LoRA-LEGO: pool the rank units of all adapters, cluster them, and build from the centroids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np

from lora_studio.composition.merging.modules import (
    Stack,
    merge_modules,
    modules_of,
    stacks_of,
    taking_part,
)
from lora_studio.composition.merging.params import AutoScale, Scale
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale
from lora_studio.errors import InvalidRequest
from lora_studio.rank_units import Clustering, UnitPool, cluster, pool_units
from lora_studio.rank_units.apart import cluster_apart, without_copies
from lora_studio.rank_units.centroid import centroids
from lora_studio.rank_units.counts import curve, elbow, shared_out


@method(
    "lego",
    title="LoRA-LEGO",
    kind="merging",
    paper="https://arxiv.org/abs/2409.16167",
    uses_model=True,
)
def lego(
    inputs: Inputs,
    *,
    rank: Annotated[
        int, Range(0, 512, 1, "Clusters, the rank of the result; 0 = as the largest source")
    ] = 0,
    gauge: Annotated[
        Literal["raw", "balanced"],
        Help("balanced: units that differ only in sign or scale are one"),
    ] = "raw",
    basis: Annotated[
        Literal["raw", "svd"], Help("svd: units are singular directions of each adapter")
    ] = "raw",
    norm: Annotated[
        Literal["inf", "l2"], Help("Norm restored on centroids by parameter reweighting")
    ] = "inf",
    centroid: Annotated[
        Literal["mean", "rank_one"],
        Help("rank_one: the best rank-one term of a cluster, whatever signs and scales its units"),
    ] = "mean",
    allot: Annotated[
        Literal["even", "elbow", "global"],
        Help("Clusters per module. elbow: chosen where the curve bends; global: shared by need"),
    ] = "even",
    copies: Annotated[
        float, Range(0.5, 1.0, 0.01, "Units at least this alike count once; 1 = off")
    ] = 1.0,
    apart: Annotated[bool, Help("At most one unit of each adapter in a cluster")] = False,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Clusters the rank-one units of all adapters and keeps one reweighted unit per cluster.

    Per module: k-means over points [a; b] into k clusters; centroid times (mean member norm /
    centroid norm), the parameter reweighting; the whole times sqrt(r / k) with r the mean source
    rank, the output reweighting. k = all units gives sqrt(r / n) times `cat`; N copies at k = r
    give the adapter back, at weights w_i their mean weight times it; one adapter with k < r is
    pruning. Takes any mix of ranks. The defaults are the paper's form; `balanced` is invariant to
    the sign and scale of units, `rank_one`, `allot`, `copies` and `apart` are our additions.
    """

    def pooled(stack: Stack) -> UnitPool:
        pool = pool_units(stack.modules, stack.weights, basis=basis, gauge=gauge)
        return without_copies(pool, copies) if copies < 1 else pool

    counts, notes = ({}, "") if allot == "even" else _counted(inputs, pooled, allot, rank)
    shares: dict[str, np.ndarray] = {}

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        pool = pooled(stack)
        k = min(counts.get(stack.name, rank or max(stack.ranks)), len(pool))
        largest = int(np.bincount(pool.owner).max())
        if apart and k < largest:
            raise InvalidRequest(
                f"'{stack.name}' has {largest} units of one adapter, which do not lie apart in {k} "
                f"clusters. Set rank to {largest} or more, or switch apart off."
            )
        found = (cluster_apart if apart else cluster)(pool, k, inputs.seed)
        shares[stack.name] = _shares(inputs, stack.name, pool, found)
        a, b = centroids(pool, found, centroid, norm)
        return a, np.float32(np.sqrt(np.mean(pool.ranks) / found.k)) * b.T

    adapter, said = apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale)
    return Merged(adapter, (*([notes] if notes else []), *said), shares)


def _shares(inputs: Inputs, name: str, pool: UnitPool, found: Clustering) -> np.ndarray:
    """(adapters as given, k): whose the energy of a cluster's members is."""
    places = [i for i in taking_part(inputs) if name in inputs.adapters[i].factors]
    shares = np.zeros((len(inputs.adapters), found.k), np.float32)
    np.add.at(shares, (np.array(places)[pool.owner], found.labels), pool.energy**2)
    total = shares.sum(0)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def _counted(
    inputs: Inputs, pooled: Callable[[Stack], UnitPool], allot: str, rank: int
) -> tuple[dict[str, int], str]:
    """Clusters of each module, and why; goes through all modules once, before any is merged."""
    stacks = stacks_of(inputs)
    curves = modules_of(inputs, stacks, lambda stack: curve(pooled(stack), inputs.seed))
    if allot == "elbow":
        k, evidence = elbow(curves)
        return dict.fromkeys(curves, k), evidence
    total = sum(rank or max(stack.ranks) for stack in stacks.values())
    counts = shared_out(curves, total)
    ranks = sorted(counts.values())
    return counts, (
        f"{total} clusters in all were shared out: {ranks[0]} to {ranks[-1]} for a module, "
        f"{ranks[len(ranks) // 2]} for the middle one."
    )
