"""DELLA on the updates themselves."""

from __future__ import annotations

from typing import Annotated

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
from lora_studio.composition.merging.sparsify import drop_small_more
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.errors import InvalidRequest


@method(
    "della_delta",
    title="DELLA on updates",
    kind="merging",
    group="updates",
    paper="https://arxiv.org/abs/2406.11617",
    uses_model=True,
)
def della_delta(
    inputs: Inputs,
    *,
    density: KeptAtRandom = 0.5,
    epsilon: Annotated[
        float, Range(0.0, 0.45, 0.01, "How much likelier the largest entries stay than the mean")
    ] = 0.15,
    elect_signs: ElectSigns = True,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops entries of the updates at random, small ones more often, and merges what stays.

    In each row of D_i = w_i s_i B_i A_i an entry stays with probability p rising with the rank of
    its magnitude from density - epsilon to density + epsilon, and is divided by p (the paper's
    rescaling; mergekit restores the norm instead; our epsilon is half the paper's window, as in
    mergekit). Then TIES' election of signs, or without `elect_signs` the sum, cut by SVD. At
    epsilon 0 it is `dare_delta`. A module that one adapter alone has is kept whole.

    Raises:
        InvalidRequest: density - epsilon is not above 0, or density + epsilon above 1.
    """
    if density < 1 and not (epsilon < density <= 1 - epsilon):
        raise InvalidRequest(
            f"epsilon is {epsilon:g} at density {density:g}: density - epsilon must be above 0 and "
            "density + epsilon at most 1. Choose a smaller epsilon."
        )
    return merge_updates(
        inputs,
        lambda update, rng: drop_small_more(update, density, epsilon, rng),
        elect if elect_signs else add,
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
