"""KnOTS: updates aligned by one SVD of them all, side by side, through their factors."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from lora_studio.composition.merging.budget import (
    NOTHING,
    Budget,
    Spectrum,
    merge_within,
    of_several,
    spectrum_of,
)
from lora_studio.composition.merging.combine import elect
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.merging.params import (
    AutoScale,
    Density,
    HowRanks,
    Keep,
    Scale,
    SumRank,
)
from lora_studio.composition.merging.rules import ties
from lora_studio.composition.merging.sparsify import draws, drop_random
from lora_studio.composition.method import Help, Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "knots",
    title="KnOTS",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2410.19735",
    uses_model=True,
)
def knots(
    inputs: Inputs,
    *,
    rule: Annotated[
        Literal["ties", "dare_ties"], Help("ties trims small entries; dare_ties drops at random")
    ] = "ties",
    density: Density = 0.5,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Finds output directions common to all adapters and merges what each does along them.

    [D_1 ... D_T] = U diag(s) [V_1^T ... V_T^T] by SVD, through the factors; U merge(w_t s V_t^T),
    with TIES or DARE-TIES on the entries, of rank at most the sum. Adding in place of merging
    would be the plain sum, `cat`. `core_ties` has common axes on the input side as well.
    """

    def merge(stack: Stack, most: int | None) -> Spectrum:
        u, rows = aligned(stack)
        if rule == "ties":
            merged = ties(rows, density)
        else:
            drawn = [
                drop_random(x.copy(), density, draws(inputs.seed, stack, i))
                for i, x in enumerate(rows)
            ]
            merged = elect(drawn, [1.0] * len(drawn))
        return spectrum_of(merged, u, most)

    return merge_within(
        inputs, of_several(merge), Budget(rank, budget, keep, usual=sum), scale, auto_scale
    )


def aligned(stack: Stack) -> tuple[np.ndarray, list[np.ndarray]]:
    """U (d_out, q), and w_t diag(s) V_t^T (q, d_in) of each adapter: D_t = U rows[t]."""
    folded = [m.folded() for m in stack.modules]
    q_b, r_b = np.linalg.qr(np.concatenate([m.B for m in folded], axis=1).astype(np.float64))
    bases = [np.linalg.qr(m.A.T.astype(np.float64)) for m in folded]  # (d_in, r), (r, r)
    starts = np.cumsum([0, *stack.ranks])
    blocks = [r_b[:, i:j] @ r.T for i, j, (_, r) in zip(starts, starts[1:], bases, strict=False)]
    x, s, _ = np.linalg.svd(np.concatenate(blocks, axis=1), full_matrices=False)
    x = x[:, : max(int((s > NOTHING * s[0]).sum()), 1)]
    rows = [
        weight * (x.T @ block) @ q.T
        for weight, block, (q, _) in zip(stack.weights, blocks, bases, strict=True)
    ]
    return q_b @ x, rows
