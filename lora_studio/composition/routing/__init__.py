"""Routed methods: who answers is decided per prompt. Importing the package registers them all."""

from lora_studio.composition.routing import (  # noqa: F401  (order is the order of the menu)
    selection,
    mixture,
    fusion,
    arrow,
    self_activated,
    router_lora,
    smora,
    meteora,
    logo,
    merge_rest,
    even,
)
