"""Who takes part in a denoising plan, and how strengths over a run are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition.method import Inputs
from lora_studio.composition.schedule import Schedule, Strength
from lora_studio.errors import InvalidRequest

USUAL_STEPS = 20
"""Steps of the run that passes and notes speak of."""
CURVE_POINTS = 21


@dataclass(frozen=True)
class Actor:
    """A source that takes part; the same adapter may do so twice."""

    id: str
    weight: float
    adapter: Adapter
    region: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """The words for its region, or nothing."""
        return str(self.region.get("prompt", ""))

    @property
    def name(self) -> str:
        """For people."""
        return self.adapter.card.title or self.id[:12]


def actors(inputs: Inputs) -> list[Actor]:
    """The sources in their order, without those of weight zero.

    Raises:
        InvalidRequest: nothing left to act.
    """
    ids = inputs.ids or [adapter.id for adapter in inputs.adapters]
    regions = inputs.regions or [{}] * len(ids)
    given = zip(ids, inputs.weights, inputs.adapters, regions, strict=True)
    found = [Actor(i, float(w), adapter, region) for i, w, adapter, region in given if w]
    if not found:
        raise InvalidRequest("Every weight is zero. Give at least one adapter a weight.")
    return found


def together(cast: Sequence[Actor]) -> dict[str, float]:
    """Adapter id -> weight; an adapter named twice acts with the sum."""
    found: dict[str, float] = {}
    for actor in cast:
        found[actor.id] = found.get(actor.id, 0.0) + actor.weight
    return found


def curves(schedule: Schedule) -> dict[str, tuple[float, ...]]:
    """Adapter id -> strength over a run; with strengths by module, their mean."""
    run = [schedule(k, CURVE_POINTS) for k in range(CURVE_POINTS)]
    names = dict.fromkeys(name for acting in run for name in acting)
    return {name: tuple(_mean(acting.get(name, 0.0)) for acting in run) for name in names}


def _mean(strength: Strength) -> float:
    if isinstance(strength, int | float):
        return float(strength)
    return sum(strength.values()) / max(len(strength), 1)
