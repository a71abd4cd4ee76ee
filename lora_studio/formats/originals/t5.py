"""T5's names, the text encoder of Flux.1 and of Stable Diffusion 3."""

from __future__ import annotations

from lora_studio.formats.originals.table import Table, same

_BLOCK = "encoder.block.{}"

T5 = Table(
    "t5",
    same(
        *(f"{_BLOCK}.layer.0.SelfAttention.{side}" for side in "qkvo"),
        *(f"{_BLOCK}.layer.1.DenseReluDense.{name}" for name in ("wi", "wi_0", "wi_1", "wo")),
    ),
)
