"""PEFT's `magnitude_prune_svd`: the largest entries of whole updates, added."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.combine import add
from lora_studio.composition.merging.dense import merge_updates
from lora_studio.composition.merging.params import AutoScale, Density, HowRanks, Keep, Rank, Scale
from lora_studio.composition.merging.sparsify import keep_largest
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "magnitude_prune_svd",
    title="Magnitude prune + SVD (PEFT)",
    kind="merging",
    group="peft",
    paper="",
    uses_model=True,
)
def magnitude_prune_svd(
    inputs: Inputs,
    *,
    density: Density = 0.5,
    rank: Rank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops the small entries of the updates, adds them and cuts the rank.

    sum_i w_i top(D_i) with D_i = s_i B_i A_i and top the `density` share of entries largest in
    magnitude, cut by SVD. PEFT's `magnitude_prune_svd` number for number. `ties_svd` also elects
    signs; `svd` prunes nothing and is exact at full rank.
    """
    ranks = Budget(rank, budget, keep)
    return merge_updates(
        inputs,
        lambda update, rng: keep_largest(update, density),
        add,
        ranks,
        scale,
        auto_scale,
        peft=True,
    )
