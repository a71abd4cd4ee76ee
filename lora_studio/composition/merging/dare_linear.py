"""PEFT's `dare_linear`: DARE on A and on B separately."""

from __future__ import annotations

from lora_studio.composition.merging.combine import add
from lora_studio.composition.merging.factor_space import merge_factors
from lora_studio.composition.merging.params import AutoScale, KeptAtRandom, Scale
from lora_studio.composition.merging.sparsify import drop_random
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "dare_linear",
    title="DARE (PEFT)",
    kind="merging",
    group="peft",
    paper="https://arxiv.org/abs/2311.03099",
    uses_model=True,
)
def dare_linear(
    inputs: Inputs,
    *,
    density: KeptAtRandom = 0.5,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Drops entries of A and of B at random, rescales the rest, and adds A and B separately.

    A = sum_i sgn(w_i s_i) sqrt|w_i s_i| m_i A_i / density with masks m_i of Bernoulli(density), and
    so for B. PEFT's `dare_linear`, given the same masks; PEFT draws them without a seed, here they
    follow from the seed, the module and the adapter. The mean over seeds is `linear`, with its
    cross terms; `dare_delta` is DARE on updates, whose mean is their sum.
    """
    return merge_factors(
        inputs, scale, auto_scale, lambda factor, rng: drop_random(factor, density, rng), add
    )
