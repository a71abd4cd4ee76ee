"""LoRA Composite: every adapter predicts, and the mean is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_studio.composition.denoising.actors import actors
from lora_studio.composition.denoising.switch import PAPER
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.schedule import Scheduled, StepView, constant


class Mean:
    """The mean of all branches' predictions."""

    def __init__(self, branches: int) -> None:
        self._branches = branches

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        return range(self._branches)

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        return sum(predictions[i] for i in range(self._branches)) / self._branches


@method("composite", title="LoRA Composite", kind="denoising", paper=PAPER)
def composite(inputs: Inputs) -> Scheduled:
    """Asks each adapter for its own prediction at every step and takes their mean.

    eps = (1/N) sum_i eps_i, each eps_i predicted with adapter i alone, at its own weight and under
    its own text encoder. The mean is uniform whatever the weights, as in the paper's code: a weight
    is a strength inside its branch, so that what comes out stays a prediction. Guidance is linear
    and commutes with the mean. N passes per step; `cached_composite` needs fewer.
    """
    cast = actors(inputs)
    branches = tuple(constant({actor.id: actor.weight}) for actor in cast)
    return Scheduled(branches, lambda: Mean(len(cast)), passes=float(len(cast)))
