"""The weighted sum cut to its best low-rank approximation, without ever forming it."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget, merge_within, summed
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Rank, Scale
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method("svd", title="SVD of the sum", kind="merging", uses_model=True)
def svd(
    inputs: Inputs,
    *,
    rank: Rank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Keeps the strongest directions of the weighted sum: its best approximation at that rank.

    U S V^T = sum_i w_i s_i B_i A_i through QR of both stacked factors; B = U S, A = V^T. The
    numbers of PEFT's `svd` without its dense matrices. At rank = sum of ranks it equals `cat`.
    Under the budget `shared` it is the best approximation of all modules together.
    """
    return merge_within(inputs, summed, Budget(rank, budget, keep), scale, auto_scale)
