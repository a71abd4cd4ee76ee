"""Sources of a routed plan by id, without those of weight zero."""

from __future__ import annotations

from lora_studio.composition.method import Inputs
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
