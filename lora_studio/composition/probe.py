"""What a method may ask of the running base model, without knowing how it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lora_studio.adapter import Adapter


@dataclass(frozen=True)
class Agreement:
    """How far a candidate answers the sources' own sample prompts as each source would itself.

    Args:
        exact: share of sample prompts whose whole greedy answer is reproduced, 0 .. 1.
        logprob: mean log-probability per answer token, over all sample prompts.
            Pictures have no exact answers: both are the share of each source's change to the
            denoiser's predictions that is reproduced.
        prompts: number of sample prompts, none of them from a test file.
        meaning: what `exact` is a share of, to follow a percentage.
    """

    exact: float
    logprob: float
    prompts: int
    meaning: str = "of their own answers are reproduced"

    @property
    def key(self) -> tuple[float, float]:
        """Order of preference: whole answers first, likelihood among equals."""
        return (round(self.exact, 6), self.logprob)


class ModelProbe(Protocol):
    """Judges candidates on the sources' sample inputs; never sees test prompts or labels."""

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale)."""
        ...
