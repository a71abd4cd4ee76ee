"""PEFT's `dare_linear_svd`: DARE on whole updates, then their sum."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.combine import add
from lora_studio.composition.merging.dense import merge_updates
from lora_studio.composition.merging.params import (
    AutoScale,
    HowRanks,
    Keep,
    KeptAtRandom,
    Rank,
    Scale,
)
from lora_studio.composition.merging.sparsify import drop_random
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "dare_linear_svd",
    title="DARE + SVD (PEFT)",
    kind="merging",
    group="peft",
    paper="https://arxiv.org/abs/2311.03099",
    uses_model=True,
)
def dare_linear_svd(
    inputs: Inputs,
    *,
    density: KeptAtRandom = 0.5,
    rank: Rank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops entries of the updates at random, rescales the rest, adds them and cuts the rank.

    sum_i w_i m_i D_i / density with D_i = s_i B_i A_i and masks m_i of Bernoulli(density), cut by
    SVD. PEFT's `dare_linear_svd`, given the same masks; PEFT draws them without a seed, here they
    follow from the seed, the module and the adapter. `dare_delta` is the same at another default
    rank, with an election of signs as an option.
    """
    ranks = Budget(rank, budget, keep)
    return merge_updates(
        inputs,
        lambda update, rng: drop_random(update, density, rng),
        add,
        ranks,
        scale,
        auto_scale,
        peft=True,
    )
