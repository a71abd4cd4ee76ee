"""LoraRetriever's Selection."""

from __future__ import annotations

from lora_studio.composition.choice import Choice
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.strengths import Fits, strengths

PAPER = "https://arxiv.org/abs/2402.09997"


@method("selection", title="Selection", kind="routing", paper=PAPER)
def selection(inputs: Inputs, *, margin: Fits = 0.0) -> Routed:
    """Gives each prompt to the one adapter whose samples it resembles most.

    y = W0 x + w_j s_j B_j A_j x with j the nearest adapter by cosine of embeddings. Best when one
    adapter clearly fits; compare `mixture`.
    """
    return Routed("selection", strengths(inputs), top_k=1, choice=Choice(margin))
