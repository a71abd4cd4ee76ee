"""Model Breadcrumbs on the updates themselves."""

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
    Scale,
    SumRank,
)
from lora_studio.composition.merging.sparsify import keep_middle
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged


@method(
    "breadcrumbs_delta",
    title="Breadcrumbs on updates",
    kind="merging",
    group="updates",
    paper="https://arxiv.org/abs/2312.06795",
    uses_model=True,
)
def breadcrumbs_delta(
    inputs: Inputs,
    *,
    density: Annotated[float, Range(0.05, 1.0, 0.05, "Share of entries kept")] = 0.5,
    gamma: Annotated[
        float, Range(0.0, 0.2, 0.005, "Share of largest entries dropped as outliers")
    ] = 0.01,
    elect_signs: ElectSigns = False,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops the largest and the smallest entries of each update and adds what lies between.

    Of D_i = w_i s_i B_i A_i the `gamma` share largest in magnitude is set to 0, then the smallest
    until the `density` share is left (where both cannot be, fewer of the largest go); the sum, or
    with `elect_signs` TIES' mean over entries of the elected sign, cut by SVD. `ties_delta` keeps
    the outliers. A module that one adapter alone has is kept whole.
    """
    return merge_updates(
        inputs,
        lambda update, rng: keep_middle(update, density, gamma),
        elect if elect_signs else add,
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
