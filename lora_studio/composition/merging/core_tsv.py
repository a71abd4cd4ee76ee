"""TSV-M with as many directions each as Core Space has room for."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.core_space import merge_cores
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.merging.rules import tsv
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "core_tsv",
    title="Core Space TSV-M",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2509.17786",
    uses_model=True,
)
def core_tsv(
    inputs: Inputs,
    *,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Keeps the strongest directions of each adapter, in equal numbers, and makes them orthogonal.

    Of each M_t in Core Space the first R / T singular triplets, R the sum of ranks; their left and
    right vectors are replaced by the nearest orthonormal ones, their values stay (times w_t). For
    adapters of one rank it equals `tsv_m`; of mixed ranks it cuts the larger to the mean rank.
    Unlike `svd`, a direction that two adapters share is not counted twice.
    """
    return merge_cores(
        inputs,
        lambda core, ranks: tsv(core, [sum(ranks) // len(ranks)] * len(ranks)),
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
