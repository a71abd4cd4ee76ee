"""Adapters that change a model's shape beside its weights, which no merge can say."""

from __future__ import annotations

from collections.abc import Mapping

from lora_studio.adapter import LoraFactors
from lora_studio.errors import InvalidAdapter

_FLUX_INNER = 3072
_CONTROL_INPUT = 128
"""Channels of Flux.1's input where a second picture stands beside the noise; 64 otherwise."""


def refuse_wider_inputs(factors: Mapping[str, LoraFactors]) -> None:
    """Refuses control adapters of Flux.1, whose first layer reads a second picture.

    Raises:
        InvalidAdapter: the adapter widens the model's input.
    """
    first = factors.get("transformer.x_embedder")
    if first is None or (first.d_in, first.d_out) != (_CONTROL_INPUT, _FLUX_INNER):
        return
    raise InvalidAdapter(
        f"This is a control adapter for Flux.1: it widens the model's input to {_CONTROL_INPUT} "
        "channels for a picture to follow, so that it cannot be composed with others or run "
        "without such a picture. Use it alone with diffusers' FluxControlPipeline.",
        "adapter-type",
    )
