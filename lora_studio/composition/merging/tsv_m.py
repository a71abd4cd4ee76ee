"""Task singular vectors, decorrelated, through the factors."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.core_space import merge_cores
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.merging.rules import tsv
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "tsv_m",
    title="TSV-M",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2412.00081",
    uses_model=True,
)
def tsv_m(
    inputs: Inputs,
    *,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Makes the singular directions of all adapters orthogonal to each other and adds them.

    D_t = U_t diag(s_t) V_t^T, the first min(d_out, d_in) / T triplets of each; [U_1 ... U_T] and
    [V_1 ... V_T] are replaced by their polar factors, the nearest matrices with orthonormal
    columns; sum over all of s u v^T with w_t in s_t. Directions that agree share one; the sum of
    the values is kept, the sum of the updates is not. Exact through the factors: no whole update is
    formed.
    """
    return merge_cores(
        inputs,
        lambda core, ranks: tsv(core, [min(len(core.u), len(core.v)) // len(ranks)] * len(ranks)),
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
