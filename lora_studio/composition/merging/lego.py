"""LoRA-LEGO: pool the rank units of all adapters, cluster them, and build from the centroids."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale
from lora_studio.rank_units import Clustering, UnitPool, cluster, pool_units


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
    scale: Annotated[float, Range(0.0, 4.0, 0.05, "Strength of the whole result")] = 1.0,
    auto_scale: Annotated[bool, Help("Choose the strength on sample prompts")] = False,
) -> Merged:
    """Clusters the rank-one units of all adapters and keeps one reweighted unit per cluster.

    Per module: k-means over points [a; b] into k clusters; centroid times (mean member norm /
    centroid norm), the parameter reweighting; the whole times sqrt(r / k) with r the mean source
    rank, the output reweighting. k = all units gives sqrt(r / n) times `cat`; N copies at k = r
    give the adapter back; one adapter with k < r is pruning. Takes any mix of ranks. `raw` gauge
    and basis are the paper's form; `balanced` is invariant to the sign and scale of units.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        pool = pool_units(stack.modules, stack.weights, basis=basis, gauge=gauge)
        k = min(rank or max(stack.ranks), len(pool))
        return _build(pool, cluster(pool, k, inputs.seed), norm)

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))


def _build(
    pool: UnitPool, clustering: Clustering, norm: Literal["inf", "l2"]
) -> tuple[np.ndarray, np.ndarray]:
    member = np.equal(clustering.labels[:, None], np.arange(clustering.k))  # (n, k)
    share = member * pool.mass[:, None]
    weight = share.sum(0) / member.sum(0)  # (k,) mean mass
    share /= share.sum(0)
    target = share.T @ _lengths(pool.A, pool.B, norm)  # (k,)
    share = (share * clustering.signs[:, None]).T.astype(np.float32)
    a, b = share @ pool.A, share @ pool.B  # (k, d_in), (k, d_out)
    found = _lengths(a, b, norm)
    factor = np.divide(target, found, out=np.zeros_like(target), where=found > 0)
    output = np.sqrt(float(np.mean(pool.ranks)) / clustering.k)
    a *= (factor * np.sqrt(weight)).astype(np.float32)[:, None]
    b *= (factor * np.sqrt(weight) * output).astype(np.float32)[:, None]
    return a, b.T


def _lengths(a: np.ndarray, b: np.ndarray, norm: Literal["inf", "l2"]) -> np.ndarray:
    """(n,) norms of the points [a; b]."""
    if norm == "l2":
        return np.hypot(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)).astype(np.float64)
    highest, lowest = np.maximum(a.max(1), b.max(1)), np.minimum(a.min(1), b.min(1))
    return np.maximum(highest, -lowest).astype(np.float64)
