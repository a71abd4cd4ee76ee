"""Ways to compose adapters, as values: methods, plans and recipes. Needs no base model."""

from lora_studio.composition import (  # noqa: F401  (registers the methods, in the menu's order)
    merging,
    routing,
    denoising,
)
from lora_studio.composition.compose import choose_units, compose, run_recipe
from lora_studio.composition.method import METHODS, Inputs, Method, Param
from lora_studio.composition.plan import Merged, Plan, Routed, RowTerms
from lora_studio.composition.probe import Agreement, ModelProbe
from lora_studio.composition.recipe import Recipe, Source
from lora_studio.composition.schedule import Scheduled

__all__ = [
    "METHODS",
    "Agreement",
    "Inputs",
    "Merged",
    "Method",
    "ModelProbe",
    "Param",
    "Plan",
    "Recipe",
    "Routed",
    "RowTerms",
    "Scheduled",
    "Source",
    "choose_units",
    "compose",
    "methods",
    "run_recipe",
]


def methods() -> list[Method]:
    """All registered methods, in the order of the menu."""
    return list(METHODS)
