"""PEFT's `dare_ties`: DARE, then TIES' election, on A and on B separately."""

from __future__ import annotations

from lora_studio.composition.merging.combine import peft_election
from lora_studio.composition.merging.factor_space import merge_factors
from lora_studio.composition.merging.params import AutoScale, KeptAtRandom, Scale, Votes
from lora_studio.composition.merging.sparsify import drop_random
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "dare_ties",
    title="DARE-TIES (PEFT)",
    kind="merging",
    group="peft",
    paper="https://arxiv.org/abs/2311.03099",
    uses_model=True,
)
def dare_ties(
    inputs: Inputs,
    *,
    density: KeptAtRandom = 0.5,
    majority_sign_method: Votes = "total",
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops entries of A and of B at random, then averages those whose sign the majority has.

    As `dare_linear`, with TIES' election of signs in place of the sum: an entry's sign is elected
    among those that were not dropped, without weights, a tie is positive; then the weighted mean of
    the entries of that sign. PEFT's `dare_ties`, given the same masks. `dare_delta` with `elect`
    does this on updates.
    """
    return merge_factors(
        inputs,
        scale,
        auto_scale,
        lambda factor, rng: drop_random(factor, density, rng),
        peft_election(majority_sign_method),
    )
