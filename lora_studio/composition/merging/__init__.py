"""Merging methods: several adapters become one. Importing the package registers them all."""

from lora_studio.composition.merging import (  # noqa: F401  (order is the order of the menu)
    preset,
    refit,
    lego,
    svd,
    cat,
    ties_delta,
    linear,
    regmean,
    lorahub,
)
