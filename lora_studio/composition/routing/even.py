"""The rule of plans without a token router: every unit passes. For looking at what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_studio.composition.token_router import Seen, token_router

if TYPE_CHECKING:
    from torch import Tensor


@token_router("even")
def weigh(seen: Seen) -> Tensor:
    """1 for every unit."""
    return seen.z * 0 + 1
