"""TIES on the updates themselves, with weights that vote."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.combine import elect
from lora_studio.composition.merging.dense import merge_updates
from lora_studio.composition.merging.params import (
    AutoScale,
    Density,
    HowRanks,
    Keep,
    Scale,
    SumRank,
)
from lora_studio.composition.merging.sparsify import keep_largest
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "ties_delta",
    title="TIES on updates",
    kind="merging",
    group="updates",
    paper="https://arxiv.org/abs/2306.01708",
    uses_model=True,
)
def ties_delta(
    inputs: Inputs,
    *,
    density: Density = 0.5,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Trims small entries, elects a sign for each entry, and averages those that agree with it.

    On dense updates D_i = w_i s_i B_i A_i: keep the `density` share largest in magnitude; sign =
    sgn(sum_i D_i); mean over the kept entries of that sign; then an SVD cut to `rank`. PEFT's
    `ties` does this on A and B separately, which is another and weaker method; its `ties_svd` does
    it here, but lets the weights in after the vote only. One adapter alone has nothing to resolve
    and is returned as it is.
    """

    return merge_updates(
        inputs,
        lambda update, rng: keep_largest(update, density),
        elect,
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
