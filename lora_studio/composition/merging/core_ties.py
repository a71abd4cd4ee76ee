"""TIES on the small matrices of Core Space."""

from __future__ import annotations

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.core_space import merge_cores
from lora_studio.composition.merging.params import (
    AutoScale,
    Density,
    HowRanks,
    Keep,
    Scale,
    SumRank,
)
from lora_studio.composition.merging.rules import ties
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "core_ties",
    title="Core Space TIES",
    kind="merging",
    group="shared_space",
    paper="https://arxiv.org/abs/2509.17786",
    uses_model=True,
)
def core_ties(
    inputs: Inputs,
    *,
    density: Density = 0.5,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Writes all updates in common axes, and trims, elects and averages their coordinates there.

    With U of [B_1 ... B_T] and V of [A_1; ...; A_T] by SVD, M_t = w_t U^T D_t V of the size of the
    summed ranks loses nothing; U TIES(M_1, ..., M_T) V^T, of rank at most the sum. Entries mean
    something only in the SVD's axes, which do not depend on weights but do on how an adapter splits
    its size between A and B. `ties_delta` votes on the entries of whole updates, thousands of times
    as many.
    """
    return merge_cores(
        inputs,
        lambda core, ranks: core.spectrum(ties(core.cores, density)),
        Budget(rank, budget, keep, usual=sum),
        scale,
        auto_scale,
    )
