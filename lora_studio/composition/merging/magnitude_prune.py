"""PEFT's `magnitude_prune`: the largest entries of A and of B, added separately."""

from __future__ import annotations

from lora_studio.composition.merging.combine import add
from lora_studio.composition.merging.factor_space import merge_factors
from lora_studio.composition.merging.params import AutoScale, Density, Scale
from lora_studio.composition.merging.sparsify import keep_largest
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "magnitude_prune",
    title="Magnitude prune (PEFT)",
    kind="merging",
    group="peft",
    paper="",
    uses_model=True,
)
def magnitude_prune(
    inputs: Inputs,
    *,
    density: Density = 0.5,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops the small entries of A and of B, and adds A and B separately.

    Of each A_i and B_i the `density` share largest in magnitude is kept; then PEFT's `linear`, with
    its cross terms B_i A_j. PEFT's `magnitude_prune` number for number, smaller ranks padded with
    zeros. `ties` also elects signs; `magnitude_prune_svd` prunes updates.
    """
    return merge_factors(
        inputs, scale, auto_scale, lambda factor, rng: keep_largest(factor, density), add
    )
