"""Denoising methods: who acts is decided while a picture is made. Importing registers them all."""

from lora_studio.composition.denoising import (  # noqa: F401  (order is the order of the menu)
    switch,
    composite,
    curve,
    block_lora,
    k_lora,
    regional,
    regional_attention,
    clora,
    cached_composite,
    patch_weights,
    gated_fusion,
)
