"""LoraRetriever's Fusion."""

from __future__ import annotations

from typing import Annotated

from lora_studio.composition.choice import Choice
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.selection import PAPER
from lora_studio.composition.routing.strengths import Fits, Gap, Softness, strengths


@method("fusion", title="Fusion", kind="routing", paper=PAPER)
def fusion(
    inputs: Inputs,
    *,
    top_k: Annotated[int, Range(1, 16, 1, "Adapters that answer one prompt")] = 3,
    gap: Gap = 0.0,
    temperature: Softness = 0.0,
    margin: Fits = 0.0,
) -> Routed:
    """Averages the A and B factors of the k adapters nearest to each prompt.

    y = W0 x + (mean_j B_j)(mean_j A_j) x. Cross terms and a 1/k^2 shrink make it the weakest of
    the three; it is here because the paper compares it. Smaller ranks are padded with zeros.
    """
    found, choice = strengths(inputs), Choice(margin, gap, temperature)
    return Routed("fusion", found, top_k=min(top_k, len(found)), choice=choice)
