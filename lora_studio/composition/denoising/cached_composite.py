"""Composite with one adapter in the lead and the others' predictions remembered for some steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Annotated, Any, Literal

from lora_studio.composition.denoising.actors import CURVE_POINTS, USUAL_STEPS, Actor, actors
from lora_studio.composition.denoising.frequencies import by_high_frequencies
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.schedule import Scheduled, StepView, constant

Spacing = Literal["even", "both ends"]
SEGMENTS = ((0.0, 0.375), (0.375, 0.875), (0.875, 1.0))
"""Parts of the run under "both ends"; the first and the last are refreshed more often."""


@method(
    "cached_composite",
    title="Cached composite",
    kind="denoising",
    paper="https://arxiv.org/abs/2502.04923",
)
def cached_composite(
    inputs: Inputs,
    *,
    refresh: Annotated[int, Range(1, 10, 1, "Steps between evaluations of all adapters")] = 3,
    schedule: Annotated[Spacing, Help("both ends: one step denser early and late")] = "even",
    order: Annotated[
        Literal["given", "high frequencies first"], Help("Which adapter leads first")
    ] = "given",
    dominance: Annotated[
        float, Range(0.0, 1.0, 0.05, "Extra weight of the leader; 0 = none")
    ] = 1.0,
) -> Scheduled:
    """Composes as Composite does, but asks only a leading adapter at most steps.

    eps = (w_d eps_d + w_o sum_(i != d) (eps_d + r_i)) / N. The residuals r_i = eps_i - eps_d are
    those of the last refresh, at which all adapters are asked and the next one takes the lead d.
    With w = max(1, N - 0.5 - sum_(k = 1..n) 0.5^k) after n further refreshes, w_o = N / (w + N - 1)
    and w_d = w w_o, so that all weights sum to N; `dominance` takes w towards 1, where all are 1.
    After CMLoRA, which keeps deep features instead of predictions and so fits UNets only; its
    order, high frequencies first, is measured on the first step's predictions. At refresh 1 and
    dominance 0 it is `composite`.
    """
    cast = actors(inputs)
    count = len(cast)
    sorts = order != "given"
    made = len(_refreshes(USUAL_STEPS, refresh, schedule))
    return Scheduled(
        tuple(constant({actor.id: actor.weight}) for actor in cast),
        lambda: Cached(count, refresh, schedule, dominance, sorts),
        passes=(count * made + USUAL_STEPS - made) / USUAL_STEPS,
        curves={} if sorts and count > 1 else _curves(cast, refresh, schedule, dominance),
    )


class Cached:
    """A leading branch at every step, all of them at a refresh.

    Args:
        branches: one per adapter.
        refresh, spacing: which steps are a refresh.
        dominance: 0..1, how far the leader's weight goes beyond the others'.
        sorts: whether adapters lead in order of their high frequencies, instead of as given.
    """

    def __init__(
        self, branches: int, refresh: int, spacing: Spacing, dominance: float, sorts: bool
    ) -> None:
        self._order = list(range(branches))
        self._refresh = refresh
        self._spacing: Spacing = spacing
        self._dominance, self._sorts = dominance, sorts
        self._refreshed = 0
        self._residual: Any = None

    @property
    def leader(self) -> int:
        """The branch that leads since the last refresh."""
        return self._order[max(self._refreshed - 1, 0) % len(self._order)]

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        due = step in _refreshes(steps, self._refresh, self._spacing)
        return range(len(self._order)) if due or not self._refreshed else (self.leader,)

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        count = len(self._order)
        if len(predictions) == count:
            if self._sorts and not self._refreshed:
                self._order = by_high_frequencies([predictions[i] for i in range(count)], view)
            self._refreshed += 1
            first = predictions[self.leader]
            self._residual = sum(predictions[i] - first for i in range(count) if i != self.leader)
        _, others = weights(count, self._refreshed - 1, self._dominance)
        return predictions[self.leader] + others / count * self._residual


def weights(count: int, refreshed: int, dominance: float) -> tuple[float, float]:
    """Weight of the leader and of each other adapter; leader + (count - 1) * other = count.

    Args:
        refreshed: refreshes since the first.
    """
    decayed = max(1.0, count - 1.5 + 0.5**refreshed)
    lead = 1.0 + dominance * (decayed - 1.0)
    other = count / (lead + count - 1)
    return lead * other, other


def _refreshes(steps: int, refresh: int, spacing: Spacing) -> list[int]:
    """Steps at which all adapters are asked; the first step is one."""
    if spacing == "even":
        return list(range(0, steps, refresh))
    dense = max(1, refresh - 1)
    found: list[int] = []
    for (low, high), every in zip(SEGMENTS, (dense, refresh, dense), strict=True):
        found += range(ceil(low * steps), ceil(high * steps), every)
    return found


def _curves(
    cast: Sequence[Actor], refresh: int, spacing: Spacing, dominance: float
) -> dict[str, tuple[float, ...]]:
    """Adapter id -> its share of the prediction, times its weight."""
    count, due = len(cast), _refreshes(CURVE_POINTS, refresh, spacing)
    found: dict[str, list[float]] = {actor.id: [0.0] * CURVE_POINTS for actor in cast}
    for step in range(CURVE_POINTS):
        refreshed = sum(1 for at in due if at <= step) - 1
        lead, other = weights(count, refreshed, dominance)
        for place, actor in enumerate(cast):
            share = lead if place == refreshed % count else other
            found[actor.id][step] += actor.weight * share / count
    return {name: tuple(values) for name, values in found.items()}
