"""What the image engine is asked for and what it answers, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from lora_studio.composition.schedule import Scheduled, constant
from lora_studio.errors import InvalidRequest

SCHEDULERS = ("", "dpm++ 2m", "ddim", "euler")
"""Samplers one may name; "" is the model's own. Others than that work on UNets only."""
MAX_STEPS = 200
MAX_SIDE = 2048


def plain(weights: Mapping[str, float]) -> Scheduled:
    """Adapters that act alike at every step; none is the base model."""
    return Scheduled((constant(weights),))


@dataclass(frozen=True)
class Denoising:
    """How pictures are made.

    Args:
        steps: 1..200; 0 is the model's usual number.
        guidance: classifier-free guidance 0..30, 1 and below is none; below 0 the model's own.
        width, height: pixels, 0 is the model's own; rounded down to what the model can do.
        negative: what to stay away from.
        scheduler: one of `SCHEDULERS`.
    """

    steps: int = 0
    guidance: float = -1.0
    width: int = 0
    height: int = 0
    negative: str = ""
    scheduler: str = ""

    def __post_init__(self) -> None:
        limits = {
            "steps": (0 <= self.steps <= MAX_STEPS, f"from 1 to {MAX_STEPS}"),
            "guidance": (self.guidance <= 30.0, "from 0 to 30"),
            "width": (0 <= self.width <= MAX_SIDE, f"up to {MAX_SIDE} pixels"),
            "height": (0 <= self.height <= MAX_SIDE, f"up to {MAX_SIDE} pixels"),
            "scheduler": (self.scheduler in SCHEDULERS, "one of " + ", ".join(SCHEDULERS[1:])),
            "negative": (len(self.negative) <= 2000, "at most 2000 characters long"),
        }
        for name, (good, allowed) in limits.items():
            if not good:
                raise InvalidRequest(f"{name} is {getattr(self, name)!r}; it must be {allowed}.")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Denoising:
        """Reads the known fields; raises InvalidRequest where a value is of another type."""
        values: dict[str, Any] = {}
        for spec in fields(cls):
            if data.get(spec.name) is None:
                continue
            try:
                values[spec.name] = type(spec.default)(data[spec.name])
            except (TypeError, ValueError, OverflowError) as error:
                raise InvalidRequest(
                    f"{spec.name} is {data[spec.name]!r}; it must be a number."
                ) from error
        return cls(**values)


@dataclass(frozen=True)
class ImageRow:
    """One picture to make. Rows of one seed start from the same noise."""

    id: str
    prompt: str
    plan: Scheduled = field(default_factory=lambda: plain({}))
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture.

    Args:
        pixels: (height, width, 3) uint8.
        passes: denoiser evaluations per evaluation of a plain run.
        seconds: wall time of the batch it was made in.
    """

    id: str
    pixels: np.ndarray
    passes: float
    seconds: float


@dataclass(frozen=True, eq=False)
class StepUpdate:
    """How far a batch is.

    Args:
        ids: its rows. step: steps done, of `steps`.
        previews: a small (height, width, 3) uint8 picture for each row, or nothing at this step.
    """

    ids: tuple[str, ...]
    step: int
    steps: int
    previews: tuple[np.ndarray, ...] = ()
