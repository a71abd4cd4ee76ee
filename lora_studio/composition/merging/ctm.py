"""Compress, then merge: the best common bases of the rank asked for, then a merge inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from lora_studio.composition.merging.core_space import core_of
from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.merging.params import AutoScale, Rank, Scale, TiesDensity
from lora_studio.composition.merging.rules import ties
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale

ROUNDS = 1000
TOLERANCE = 1e-6


@method(
    "ctm",
    title="Compress, then merge",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2606.03723",
    uses_model=True,
)
def ctm(
    inputs: Inputs,
    *,
    rank: Rank = 0,
    rule: Annotated[
        Literal["sum", "ties"], Help("What is done with the adapters' parts in the common bases")
    ] = "ties",
    density: TiesDensity = 0.25,
    loud: Annotated[
        float, Range(0.0, 1.0, 0.05, "How much stronger adapters count for more in the bases")
    ] = 0.25,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Finds the few directions that keep most of every adapter, and merges only inside them.

    In Core Space X_t = M_t (loud + (1 - loud) mean|M| / |M_t|); a partial Tucker decomposition of
    the stacked X_t (HOSVD, then HOOI) gives U (p, r) and V (q, r); O_t = U^T M_t V; B = U merge(O),
    A = V^T, of the rank asked for by construction, where others merge first and cut afterwards.
    `density` is for ties. The worst-kept adapter keeps most here; its direction in the result need
    not: compare the cosines. Weights count in O_t, not in the bases.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        wanted = rank or max(stack.ranks)
        if len(stack.modules) == 1 and wanted >= stack.ranks[0]:
            return stack.concatenated()
        core = core_of(stack)
        plain = [m / w for m, w in zip(core.cores, stack.weights, strict=True)]
        left, right = common_bases(plain, wanted, loud)
        inner = [left.T @ m @ right for m in core.cores]
        joined = ties(inner, density) if rule == "ties" and len(inner) > 1 else sum(inner)
        return (core.v @ right).T, core.u @ (left @ joined)

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))


def common_bases(
    cores: Sequence[np.ndarray], rank: int, loud: float
) -> tuple[np.ndarray, np.ndarray]:
    """U (p, r), V (q, r) with orthonormal columns that keep most of sum_t |U^T X_t V|^2, r <= rank.

    X_t is M_t at its own size times `loud` and the mean size times 1 - loud.
    """
    norms = [float(np.linalg.norm(m)) for m in cores]
    mean = float(np.mean(norms))
    sized = np.stack(
        [m * (loud + (1 - loud) * mean / n) if n else m for m, n in zip(cores, norms, strict=True)]
    )  # (T, p, q)
    turned = np.swapaxes(sized, 1, 2)  # (T, q, p)
    left, right, kept = _side_by_side(sized, rank), _side_by_side(turned, rank), 0.0
    for _ in range(ROUNDS):
        left = _side_by_side(sized @ right, rank)
        right = _side_by_side(turned @ left, rank)
        now = float(np.linalg.norm(left.T @ sized @ right))
        if now - kept <= TOLERANCE * now:
            break
        kept = now
    return left, right


def _side_by_side(slices: np.ndarray, rank: int) -> np.ndarray:
    """(p, rank) strongest left directions of the (T, p, q) slices together."""
    return np.linalg.svd(np.concatenate(slices, axis=1), full_matrices=False)[0][:, :rank]
