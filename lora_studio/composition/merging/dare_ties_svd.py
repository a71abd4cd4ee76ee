"""PEFT's `dare_ties_svd`: DARE, then TIES' election, on whole updates."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.combine import peft_election
from lora_studio.composition.merging.dense import merge_updates
from lora_studio.composition.merging.params import (
    AutoScale,
    HowRanks,
    Keep,
    KeptAtRandom,
    Rank,
    Scale,
    Votes,
)
from lora_studio.composition.merging.sparsify import drop_random
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "dare_ties_svd",
    title="DARE-TIES + SVD (PEFT)",
    kind="merging",
    group="peft",
    paper="https://arxiv.org/abs/2311.03099",
    uses_model=True,
)
def dare_ties_svd(
    inputs: Inputs,
    *,
    density: KeptAtRandom = 0.5,
    majority_sign_method: Votes = "total",
    rank: Rank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops entries of the updates at random, averages those of the majority's sign, cuts the rank.

    As `dare_linear_svd`, with TIES' election in place of the sum: signs are elected without weights
    among the entries that were not dropped, a tie is positive; the mean of w_i D_i over the entries
    of that sign is cut by SVD. PEFT's `dare_ties_svd`, given the same masks.
    """
    ranks = Budget(rank, budget, keep)
    return merge_updates(
        inputs,
        lambda update, rng: drop_random(update, density, rng),
        peft_election(majority_sign_method),
        ranks,
        scale,
        auto_scale,
        peft=True,
    )
