"""Iso-C on the whole sum, through its factors."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.core_space import merge_cores
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "iso_c",
    title="Iso-C",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2502.04959",
    uses_model=True,
)
def iso_c(
    inputs: Inputs,
    *,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Gives every direction of the sum the same strength, the mean over the whole update's.

    Sum = U diag(s) V^T -> mean(s) U V^T with the mean over min(d_out, d_in) singular values, those
    that are 0 among them; the paper's number, on the directions that the sum has (the paper's code
    also fills the others, arbitrarily). Weak for adapters of small rank: the paper multiplies by a
    tuned factor, here `scale`. `core_iso` takes the mean over the sum's own directions.
    """
    return merge_cores(
        inputs,
        lambda core, ranks: core.spectrum(core.total).flattened(min(len(core.u), len(core.v))),
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
