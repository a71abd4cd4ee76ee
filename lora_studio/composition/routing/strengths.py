"""Sources of a routed plan by id, without those of weight zero; and the plan of a token router."""

from __future__ import annotations

from typing import Annotated

from lora_studio.composition.method import Inputs, Range
from lora_studio.composition.plan import Routed
from lora_studio.composition.token_router import router
from lora_studio.errors import InvalidRequest


def strengths(inputs: Inputs) -> dict[str, float]:
    """Adapter id -> weight.

    Raises:
        InvalidRequest: nothing left to route among.
    """
    ids = inputs.ids or [adapter.id for adapter in inputs.adapters]
    found = {i: float(w) for i, w in zip(ids, inputs.weights, strict=True) if w}
    if not found:
        raise InvalidRequest("Every weight is zero. Give at least one adapter a weight.")
    return found


Fits = Annotated[
    float,
    Range(0.0, 1.0, 0.01, "How much nearer to a prompt than a blank text an adapter has to be to "
          "answer; where none is, the base model answers alone. 0 = no limit"),
]  # fmt: skip
Gap = Annotated[
    float,
    Range(0.0, 1.0, 0.01, "The nearest answers alone if it leads by as much. 0 = never"),
]
Softness = Annotated[
    float,
    Range(0.0, 1.0, 0.01, "Shares follow similarity: softmax of cosines over this. 0 = even"),
]
Among = Annotated[int, Range(1, 64, 1, "Adapters retrieved for a prompt, who may act")]


def weighed(inputs: Inputs, rule: str, among: int, **params: float | str) -> Routed:
    """A plan under which the `among` adapters nearest to a prompt are weighed by a token router.

    Raises:
        InvalidRequest: nothing left to route among.
    """
    found = strengths(inputs)
    return Routed(rule, found, top_k=min(among, len(found)), router=router(rule, **params))
