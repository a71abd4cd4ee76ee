"""Gated fusion: a gate inside every module decides how much of each adapter passes."""

from __future__ import annotations

from lora_studio.composition.denoising.actors import actors, together
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.schedule import Scheduled, constant
from lora_studio.errors import InvalidRequest


@method(
    "gated_fusion",
    title="Gated fusion",
    kind="denoising",
    paper="https://arxiv.org/abs/2508.02107",
    uses_gate=True,
)
def gated_fusion(inputs: Inputs) -> Scheduled:
    """Adds all adapters, each through a gate that opens by what flows through the module.

    out = base + sum_i w_out * g_i * l_i with g_i = sigmoid(LN(base) * w_base + LN(l_i) * w_lora +
    LN(base) * LN(l_i) * w_cross + bias), l_i adapter i's own update at its own weight: AutoLoRA's
    fusion. The gate belongs to the base model and was fitted on pairs of adapters, so that each
    pair predicts on the prompts of one adapter as that adapter alone; it serves adapters it never
    saw. Text encoders are not gated. One adapter alone acts as usual. One pass per step, but a
    slower one than that of the sum (`cat`), most of all on a CPU.
    """
    cast = actors(inputs)
    if len(cast) == 1:
        return Scheduled((constant(together(cast)),))
    if inputs.gate is None:
        raise InvalidRequest(
            "No gate has been fitted for this base model. Fit one with `python -m "
            "lora_studio.training.image_gate`, or choose a merge or Composite."
        )
    return Scheduled((constant(together(cast), gate=inputs.gate),))
