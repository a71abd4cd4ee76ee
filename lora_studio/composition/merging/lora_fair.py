"""LoRA-FAIR: averaging A and B separately, with B corrected towards the true sum."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.merging.params import AutoScale, Scale
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale


@method(
    "lora_fair",
    title="LoRA-FAIR",
    kind="merging",
    group="averages",
    paper="https://arxiv.org/abs/2411.14961",
    uses_model=True,
)
def lora_fair(
    inputs: Inputs,
    *,
    damping: Annotated[
        float, Range(0.0, 1.0, 0.01, "How much the correction of B is held back")
    ] = 0.01,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Averages A, and chooses the B that with it comes nearest to the sum of the updates.

    A = sum_i |w_i| A_i / sum_i |w_i|, B' = sum_i w_i B_i (factors folded), B = B' + E with
    E = (S - B' A) A^T (A A^T + d I)^-1, S = sum_i w_i D_i, d = `damping` times the mean of A A^T's
    diagonal: the least |S - (B' + E) A|^2 + d |E|^2, the paper's correction in closed form. Best
    for adapters of one federated run, whose A have stayed alike; for strangers `svd` is better at
    the same rank, since it chooses A as well. Smaller ranks are padded with zeros.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        if len(stack.modules) == 1:
            return stack.concatenated()
        rank, first = max(stack.ranks), stack.modules[0]
        a, b = np.zeros((rank, first.d_in)), np.zeros((first.d_out, rank))
        for module, weight in zip(stack.modules, stack.weights, strict=True):
            folded = module.folded()
            a[: module.rank] += abs(weight) * folded.A
            b[:, : module.rank] += weight * folded.B
        a /= sum(map(abs, stack.weights))
        return a, b + correction(stack, a, b, damping)

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))


def correction(stack: Stack, a: np.ndarray, b: np.ndarray, damping: float) -> np.ndarray:
    """(d_out, r) what to add to b, through the factors."""
    every_a, every_b = (f.astype(np.float64) for f in stack.concatenated())
    inner = a @ a.T  # (r, r)
    left = every_b @ (every_a @ a.T) - b @ inner  # (d_out, r)
    held = inner + damping * float(np.mean(np.diag(inner))) * np.eye(len(inner))
    return left @ np.linalg.pinv(held, hermitian=True)
