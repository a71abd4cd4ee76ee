"""Choosing the strength of a merge on sample prompts: most of what makes it good or bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_studio.adapter import Adapter
from lora_studio.composition.method import Inputs
from lora_studio.composition.probe import Agreement

SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)


@dataclass(frozen=True)
class Scaled:
    """An adapter with the scale that was chosen for it, and the evidence."""

    adapter: Adapter
    scale: float
    agreement: Agreement


def best_scale(adapter: Adapter, inputs: Inputs, scales: Sequence[float] = SCALES) -> Scaled | None:
    """The scale under which the merge best answers the sources' samples as the sources do.

    Among equals the scale nearest to 1 wins. None without a probe or without samples.
    """
    if inputs.probe is None:
        return None
    found = inputs.probe.agreement([(adapter, scale) for scale in scales])
    if not found or found[0].prompts == 0:
        return None
    ranked = sorted(
        zip(scales, found, strict=True), key=lambda item: (item[1].key, -abs(item[0] - 1.0))
    )
    scale, agreement = ranked[-1]
    return Scaled(adapter.scaled(scale).folded(), scale, agreement)


def apply_scale(
    adapter: Adapter, inputs: Inputs, scale: float, auto: bool
) -> tuple[Adapter, tuple[str, ...]]:
    """`adapter` under a fixed or an automatic scale, and a note that says which and why."""
    if not auto:
        return adapter.scaled(scale).folded(), ()
    chosen = best_scale(adapter, inputs)
    if chosen is None:
        return adapter.scaled(scale).folded(), (_untuned(inputs, scale),)
    return chosen.adapter, (describe(chosen),)


def _untuned(inputs: Inputs, scale: float) -> str:
    return f"Auto-scale needs the base model and sample inputs; scale {scale:g} was used."


def describe(chosen: Scaled) -> str:
    """One sentence on the choice."""
    found = chosen.agreement
    return (
        f"Scale {chosen.scale:g} was chosen on {found.prompts} sample prompts of the sources "
        f"(not test prompts): {found.exact:.0%} {found.meaning}."
    )
