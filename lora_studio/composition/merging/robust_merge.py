"""RobustMerge: the largest entries of A and B, with the loss of A made up for on B."""

from __future__ import annotations

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.merging.params import AutoScale, Density, Scale
from lora_studio.composition.merging.sparsify import keep_largest
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale

FLOOR = 0.8
"""Ranks whose A loses less than that of this quantile are scaled as if they lost as much."""


@method(
    "robust_merge",
    title="RobustMerge",
    kind="merging",
    group="directions",
    paper="https://arxiv.org/abs/2502.17159",
    uses_model=True,
)
def robust_merge(
    inputs: Inputs,
    *,
    density: Density = 0.2,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Keeps the largest entries of A and B, and gives ranks that lost much of A more of B.

    Of A_t and B_t (weights folded in, the sign on B) the `density` share largest in magnitude is
    kept; s_t = |row of A_t|_1 / |kept row|_1, raised to at least its 80 % quantile over the ranks;
    A = sum_t kept(A_t), B = sum_t s_t kept(B_t) / sum_t s_t, rank by rank. The authors multiply
    both by 2: that is `scale` 4. Like PEFT's merges it adds ranks of different adapters that have
    nothing to do with each other; smaller ranks are padded. One adapter alone stays as it is.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        if len(stack.modules) == 1:
            return stack.concatenated()
        rank, first = max(stack.ranks), stack.modules[0]
        a = np.zeros((rank, first.d_in), np.float32)
        b = np.zeros((first.d_out, rank), np.float32)
        shares = np.zeros(rank)
        for module, weight in zip(stack.modules, stack.weights, strict=True):
            folded = module.scaled(weight).folded()
            thin = keep_largest(folded.A.copy(), density)
            made_up = made_up_for(folded.A, thin)  # (r,)
            a[: module.rank] += thin
            b[:, : module.rank] += keep_largest(folded.B.copy(), density) * made_up.astype(
                np.float32
            )
            shares[: module.rank] += made_up
        return a, b / np.maximum(shares, 1e-12).astype(np.float32)

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))


def made_up_for(a: np.ndarray, thin: np.ndarray) -> np.ndarray:
    """(r,) how much larger each row of A was before it was thinned, at least the FLOOR quantile;
    a row of which nothing is left counts as the others."""
    before, after = np.abs(a).sum(1), np.abs(thin).sum(1)
    ratio = np.divide(before, after, out=np.ones_like(before), where=after > 0)
    return np.maximum(ratio, np.sort(ratio)[min(int(FLOOR * len(ratio)), len(ratio) - 1)])
