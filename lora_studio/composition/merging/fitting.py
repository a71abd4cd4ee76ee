"""What methods that are fitted to samples share: where they start, and whose weights count."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.merging.budget import spectrum_of
from lora_studio.composition.merging.modules import Stack, merge_modules, taking_part
from lora_studio.composition.method import Inputs
from lora_studio.composition.plan import Merged


@dataclass(frozen=True, eq=False)
class Start:
    """Where a fit begins.

    Args:
        adapter: SVD of the weighted sum at the rank asked for: the result where nothing is fitted.
        limits: module -> its rank in the result.
        sources: (adapter, weight) of every source, in the order of `taking_part`.
        given: of each of these, its place among the adapters as given.
    """

    adapter: Adapter
    limits: Mapping[str, int]
    sources: tuple[tuple[Adapter, float], ...]
    given: tuple[int, ...]

    def with_factors(self, found: Mapping[str, LoraFactors]) -> Adapter:
        """The adapter with these modules instead of its own."""
        return replace(self.adapter, factors={**self.adapter.factors, **found})


def start_of(inputs: Inputs, rank: int) -> Start:
    """Raises what `merge_modules` raises.

    Args:
        rank: 0 is that of the largest source, module by module.
    """
    limits: dict[str, int] = {}

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        limits[stack.name] = rank or max(stack.ranks)
        return spectrum_of(*stack.concatenated()).cut(limits[stack.name])

    adapter = merge_modules(inputs, merge)
    places = taking_part(inputs)
    sources = tuple((inputs.adapters[i], float(inputs.weights[i])) for i in places)
    return Start(adapter, limits, sources, tuple(places))


def unfitted(start: Start, reason: str) -> Merged:
    """What comes of it where nothing could be fitted."""
    return Merged(start.adapter, (f"{reason}: SVD of the sum was used instead.",))


def silent(start: Start, heard: Collection[int | None], fate: str) -> list[str]:
    """A note on sources that were not heard because they have no samples, by name."""
    names = [
        f"'{adapter.card.title or f'adapter {place + 1}'}'"
        for place, (adapter, _) in enumerate(start.sources)
        if place not in heard
    ]
    return [f"No sample inputs are known of {', '.join(names)}: {fate}."] if names else []
