"""Merging methods: several adapters become one. Importing the package registers them all."""

from lora_studio.composition.merging import (  # noqa: F401  (order is the order of the menu)
    preset,
    lego,
    svd,
    cat,
    task_arithmetic,
    ties_delta,
    dare_delta,
    della_delta,
    breadcrumbs_delta,
    linear,
    ties,
    dare_linear,
    dare_ties,
    magnitude_prune,
    ties_svd,
    dare_linear_svd,
    dare_ties_svd,
    magnitude_prune_svd,
)
