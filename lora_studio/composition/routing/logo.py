"""LoGo: LoRA on the go."""

from __future__ import annotations

from typing import Annotated

from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.strengths import strengths


@method(
    "logo", title="LoGo", kind="routing", paper="https://arxiv.org/abs/2511.07129", in_model=True
)
def logo(
    inputs: Inputs,
    *,
    top_k: Annotated[int, Range(1, 16, 1, "Adapters that answer one prompt")] = 3,
) -> Routed:
    """Gives each prompt to the k adapters that answer it loudest in one pass with all attached.

    Signal of adapter j: |B_j A_j h| / |B_j A_j| at the prompt's last token h, over the modules of
    the last layer; y = W0 x + sum_j p_j w_j s_j B_j A_j x with p the signals of the k largest over
    their sum. The paper takes |B_j A_j h| of one module, with which a large adapter always wins.
    Needs no samples and no fitting, and one more pass for each prompt.
    """
    found = strengths(inputs)
    return Routed("logo", found, top_k=min(top_k, len(found)), by="activation")
