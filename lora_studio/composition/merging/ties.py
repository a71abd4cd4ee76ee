"""PEFT's `ties`: TIES on A and on B separately."""

from __future__ import annotations

from lora_studio.composition.merging.combine import peft_election
from lora_studio.composition.merging.factor_space import merge_factors
from lora_studio.composition.merging.params import AutoScale, Density, Scale, Votes
from lora_studio.composition.merging.sparsify import keep_largest
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "ties",
    title="TIES (PEFT)",
    kind="merging",
    group="peft",
    paper="https://arxiv.org/abs/2306.01708",
    uses_model=True,
)
def ties(
    inputs: Inputs,
    *,
    density: Density = 0.5,
    majority_sign_method: Votes = "total",
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Trims the small entries of A and of B, and averages those whose sign the majority has.

    Of each A_i and B_i as they stand in the file the `density` share largest in magnitude is kept;
    an entry's sign is elected without weights, a tie is positive; the mean over the entries of that
    sign, weighted by sqrt|w_i s_i| (the sign of w_i s_i on A). PEFT's `ties` number for number,
    smaller ranks padded with zeros. Since it votes on factors, rewriting an adapter (B G, G^-1 A),
    or folding its alpha in, changes the result: `ties_delta` votes on updates and does not have
    that.
    """
    return merge_factors(
        inputs,
        scale,
        auto_scale,
        lambda factor, rng: keep_largest(factor, density),
        peft_election(majority_sign_method),
    )
