"""LoraRetriever's Mixture."""

from __future__ import annotations

from typing import Annotated

from lora_studio.composition.choice import Choice
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.selection import PAPER
from lora_studio.composition.routing.strengths import Fits, Gap, Softness, strengths


@method("mixture", title="Mixture", kind="routing", paper=PAPER)
def mixture(
    inputs: Inputs,
    *,
    top_k: Annotated[int, Range(1, 16, 1, "Adapters that answer one prompt")] = 3,
    gap: Gap = 0.0,
    temperature: Softness = 0.0,
    margin: Fits = 0.0,
) -> Routed:
    """Averages the outputs of the k adapters nearest to each prompt.

    y = W0 x + (1/k) sum_j w_j s_j B_j A_j x. With k = all adapters it equals `cat` at weights w/n
    and can be downloaded as one adapter. `gap` selects where one adapter is clearly the nearest and
    mixes elsewhere; `temperature` puts softmax(cosine / temperature) in the place of 1/k.
    """
    found, choice = strengths(inputs), Choice(margin, gap, temperature)
    return Routed("mixture", found, top_k=min(top_k, len(found)), choice=choice)
