"""DARE on the updates themselves."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.combine import add, elect
from lora_studio.composition.merging.dense import merge_updates
from lora_studio.composition.merging.params import (
    AutoScale,
    ElectSigns,
    HowRanks,
    Keep,
    KeptAtRandom,
    Scale,
    SumRank,
)
from lora_studio.composition.merging.sparsify import drop_random
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "dare_delta",
    title="DARE on updates",
    kind="merging",
    group="updates",
    paper="https://arxiv.org/abs/2311.03099",
    uses_model=True,
)
def dare_delta(
    inputs: Inputs,
    *,
    density: KeptAtRandom = 0.5,
    elect_signs: ElectSigns = False,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops entries of the updates at random, rescales those that stay, and adds the updates.

    sum_i m_i D_i / density with D_i = w_i s_i B_i A_i and masks m_i of Bernoulli(density), cut by
    SVD. Its mean over seeds is the sum; the cut brings each draw nearer to it, so that at a small
    rank little is left of the sparsity. `elect_signs` is DARE-TIES, with weights that vote.
    `dare_linear` does it on A and B separately. A module that one adapter alone has is kept whole.
    """
    return merge_updates(
        inputs,
        lambda update, rng: drop_random(update, density, rng),
        elect if elect_signs else add,
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
