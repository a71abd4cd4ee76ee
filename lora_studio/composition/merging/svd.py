"""The weighted sum cut to its best low-rank approximation, without ever forming it."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale
from lora_studio.rank_units.unit import factored_svd


@method("svd", title="SVD of the sum", kind="merging", uses_model=True)
def svd(
    inputs: Inputs,
    *,
    rank: Annotated[int, Range(0, 512, 1, "Rank of the result; 0 = largest source rank")] = 0,
    scale: Annotated[float, Range(0.0, 4.0, 0.05, "Strength of the whole result")] = 1.0,
    auto_scale: Annotated[bool, Help("Choose the strength on sample prompts")] = False,
) -> Merged:
    """Keeps the strongest directions of the weighted sum: its best approximation at that rank.

    U S V^T = sum_i w_i s_i B_i A_i through QR of both stacked factors; B = U S, A = V^T. The
    numbers of PEFT's `svd` without its dense matrices. At rank = sum of ranks it equals `cat`.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        return truncate(*stack.concatenated(), rank or max(stack.ranks))

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))


def truncate(a: np.ndarray, b: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A (rank, d_in) and B (d_out, rank) of the best approximation of b @ a; zero-padded never."""
    u, s, vt = factored_svd(a, b, rank)
    return vt, u * s
