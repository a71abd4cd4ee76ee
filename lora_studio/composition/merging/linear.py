"""Averaging A and B separately: PEFT's quickest merge, kept as the labelled baseline it is."""

from __future__ import annotations

from lora_studio.composition.merging.factor_space import merge_factors
from lora_studio.composition.merging.params import AutoScale, Scale
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method("linear", title="Linear (PEFT)", kind="merging", group="peft", uses_model=True)
def linear(inputs: Inputs, *, scale: Scale = 1.0, auto_scale: AutoScale = False) -> Merged:
    """Adds the A factors and the B factors separately; fast, but mixes unrelated ranks.

    A = sum_i sgn(w_i s_i) sqrt|w_i s_i| A_i, B = sum_i sqrt|w_i s_i| B_i, so that cross terms
    B_i A_j enter. PEFT's `linear` number for number; where PEFT refuses unequal ranks, the smaller
    ones are padded with zeros. `cat` is the sum without cross terms. With adapters that share the
    seed of their initial A the cross terms agree: at weights 1 the result is about n times too
    strong, averaged it is fine.
    """
    return merge_factors(inputs, scale, auto_scale)
