"""ZipLoRA's column mergers, in a closed form that needs no pictures."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lora_studio.composition.merging.budget import (
    Budget,
    Spectrum,
    merge_within,
    of_several,
    spectrum_of,
)
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged


@method(
    "zip_columns",
    title="Zip columns",
    kind="merging",
    group="directions",
    paper="https://arxiv.org/abs/2311.13600",
    uses_model=True,
)
def zip_columns(
    inputs: Inputs,
    *,
    apart: Annotated[
        float, Range(0.0, 1.9, 0.1, "How much columns that two adapters both change are kept apart")
    ] = 1.0,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Weighs every input column of every adapter, less where adapters change the same thing.

    Delta = sum_t w_t D_t diag(m_t); for each column j, with c_t its parts in the w_t D_t, the m_tj
    that minimise sum_t (m_tj - 1)^2 |c_t|^2 + apart / (T - 1) sum_(s<t) m_sj m_tj |<c_s, c_t>|, one
    small linear system. Parts at right angles keep 1; copies, and opposites, are turned down.
    ZipLoRA learns m_t on pictures; this is our data-free form of its penalty. Columns scale A, so
    it stays exact at the sum of ranks.
    """

    def merge(stack: Stack, most: int | None) -> Spectrum:
        a, b = (f.astype(np.float64) for f in stack.concatenated())
        owner = np.repeat(np.arange(len(stack.ranks)), stack.ranks)
        m = mergers(a, b, owner, apart)  # (T, d_in)
        return spectrum_of(a * m[owner], b, most)

    return merge_within(
        inputs, of_several(merge), Budget(rank, budget, keep, usual=sum), scale, auto_scale
    )


def mergers(a: np.ndarray, b: np.ndarray, owner: np.ndarray, apart: float) -> np.ndarray:
    """(T, d_in) factors of the columns.

    Args:
        a: (R, d_in) and b: (d_out, R), the pooled factors; owner: (R,) adapter of each rank.
    """
    count = int(owner.max()) + 1
    inner = b.T @ b  # (R, R)
    gram = np.zeros((a.shape[1], count, count))  # <c_s, c_t> of each column
    for s in range(count):
        left = inner[:, owner == s] @ a[owner == s]  # (R, d_in)
        for t in range(count):
            gram[:, t, s] = np.einsum("rj,rj->j", a[owner == t], left[owner == t])
    own = np.einsum("jtt->jt", gram)
    system = np.abs(gram) * (apart / (count - 1) / 2)
    np.einsum("jtt->jt", system)[:] = np.maximum(own, 1e-30)
    solved = np.linalg.solve(system, np.maximum(own, 1e-30)[..., None])[..., 0]
    return solved.T
