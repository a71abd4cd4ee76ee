"""PEFT's `ties_svd`: TIES on whole updates, weights after the vote."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.combine import peft_election
from lora_studio.composition.merging.dense import merge_updates
from lora_studio.composition.merging.params import (
    AutoScale,
    Density,
    HowRanks,
    Keep,
    Rank,
    Scale,
    Votes,
)
from lora_studio.composition.merging.sparsify import keep_largest
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "ties_svd",
    title="TIES + SVD (PEFT)",
    kind="merging",
    group="peft",
    paper="https://arxiv.org/abs/2306.01708",
    uses_model=True,
)
def ties_svd(
    inputs: Inputs,
    *,
    density: Density = 0.5,
    majority_sign_method: Votes = "total",
    rank: Rank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Trims small entries of the updates, averages those of the majority's sign, and cuts the rank.

    On D_i = s_i B_i A_i, a module at a time: the `density` share largest in magnitude is kept,
    signs are elected without weights (a tie is positive), the mean of w_i D_i over the entries of
    that sign is cut by SVD. PEFT's `ties_svd` number for number. `ties_delta` lets the weights
    vote: there a negative weight turns an adapter's signs around, and does not make it vote for
    what it opposes.
    """
    ranks = Budget(rank, budget, keep)
    return merge_updates(
        inputs,
        lambda update, rng: keep_largest(update, density),
        peft_election(majority_sign_method),
        ranks,
        scale,
        auto_scale,
        peft=True,
    )
