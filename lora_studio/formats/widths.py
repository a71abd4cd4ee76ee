"""What the widths of a UNet's adapter say: which Stable Diffusion its prompt encoder belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from lora_studio.adapter import LoraFactors

FAMILY_OF_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


def context_width(factors: Mapping[str, LoraFactors]) -> int | None:
    """Width of the prompt's embedding: what cross-attention's keys and values read."""
    tails = (".attn2.to_k", ".attn2.to_v")
    found = (m.d_in for name, m in factors.items() if name.endswith(tails))
    return next(found, None)


def unet_family(factors: Mapping[str, LoraFactors]) -> str:
    """ "sd1", "sd2" or "sdxl" if the prompt's embedding has a width they have, else ""."""
    return FAMILY_OF_CONTEXT.get(context_width(factors) or 0, "")
