"""Iso-C on the summed core: all directions equally strong."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.core_space import merge_cores
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "core_iso",
    title="Core Space Iso-C",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2509.17786",
    uses_model=True,
)
def core_iso(
    inputs: Inputs,
    *,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Adds all updates and gives every direction of the sum the same strength, their mean.

    SVD of M = sum_t M_t in Core Space, X diag(s) Y^T -> mean(s) X Y^T with the mean over min(p, q)
    values, p and q the dimensions of the bases. Lossless: the same directions as `iso_c`, which
    takes its mean over all min(d_out, d_in) values of the whole update, nearly all 0, and is weaker
    by that ratio.
    """
    return merge_cores(
        inputs,
        lambda core, ranks: core.spectrum(core.total).flattened(min(core.cores[0].shape)),
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
