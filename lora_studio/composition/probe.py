"""What a method may ask of the running base model, without knowing how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lora_studio.adapter import Adapter, LoraFactors


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
        of_source: adapter id -> (exact, logprob) over that source's own prompts, where they are
            told apart.
    """

    exact: float
    logprob: float
    prompts: int
    meaning: str = "of their own answers are reproduced"
    of_source: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[float, float]:
        """Order of preference: whole answers first, likelihood among equals."""
        return (round(self.exact, 6), self.logprob)


@dataclass(frozen=True, eq=False)
class Part:
    """What one source wants of one module, on the source's own samples.

    Args:
        source: place of the adapter among those given; None is a generic text, on which the base
            model is to stay as it is.
        inputs: (n, d_in) what the module is given.
        wanted: (n, d_out) what a merged update should add to the module's output there.
        weights: (n,) importance of each row; sums to 1.
    """

    source: int | None
    inputs: Any
    wanted: Any
    weights: Any


@dataclass(frozen=True, eq=False)
class Site:
    """One module of the base model with what its sources want of it."""

    name: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Walked:
    """What a walk saw.

    Args:
        prompts: number of sample prompts; where it is 0 nothing was fitted.
        agreed: share of them that all sources at once answer as the source alone does; None if
            nobody asked.
        together: whether these were shown under all sources at once.
    """

    prompts: int
    agreed: float | None = None
    together: bool = False


Fit = Callable[[Sequence[Site]], Mapping[str, LoraFactors]]
"""Sites that share their inputs -> the merged factors of each, by name."""


class ModelProbe(Protocol):
    """Judges candidates on the sources' sample inputs; never sees test prompts or labels."""

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale)."""
        ...


@runtime_checkable
class WalkingProbe(ModelProbe, Protocol):
    """One that also shows what goes on inside the model on these samples."""

    def walk(
        self,
        sources: Sequence[tuple[Adapter, float]],
        start: Adapter,
        fit: Fit,
        *,
        sequential: bool = True,
        guard: int = 0,
        together: float = 2.0,
    ) -> Walked:
        """Goes through the modules of `start` in the order the model runs them, and has each group
        that shares its inputs fitted. Values are torch tensors on the model's device.

        Args:
            sources: (adapter, strength); an adapter that the probe has no samples of takes no part.
            start: acts where nothing is fitted, in modules the model does not run as such.
            sequential: inputs are those of the model with everything fitted so far, and `wanted`
                leads back from there to what the source alone would make of its sample; otherwise
                inputs are the source's own, and `wanted` is its own update of them.
            guard: number of generic texts that the base model writes itself and is to keep.
            together: if at least this share of the samples is answered by all sources at once as by
                the source alone, those samples show all at once instead of the source alone; above
                1 is never.
        """
        ...

    def split(self) -> tuple[WalkingProbe, WalkingProbe]:
        """Two probes over three quarters of each source's samples and over the rest: to fit with
        the one and to judge with the other."""
        ...
