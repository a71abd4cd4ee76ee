"""Plans for a denoiser: which adapters act at which step, in how many branches, and how the
branches' predictions become one. Arrays are torch tensors at run time; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lora_studio.adapter import Adapter
from lora_studio.composition.gate import Gate

Strength = float | Mapping[str, float]
"""Weight of an adapter at one step: one number, or module -> number (missing = 0)."""

Weights = Mapping[str, Strength]
"""Adapter id -> strength; who is missing does not act."""

Shares = Callable[[int, int], Any]
"""(height, width) -> (branches, height, width) float32."""

Maps = Mapping[tuple[int, str], Any]
"""(branch, concept) -> (height, width) tensor, at least 0."""

Schedule = Callable[[int, int], Weights]
"""(step 0 .. steps - 1, steps) -> who acts on the denoiser. Must be a pure function."""

TextSchedule = Callable[[int, int], Mapping[str, float]]
"""(step, steps) -> adapter id -> weight of its text-encoder part in the prompt's embedding. The
engine encodes once for each distinct answer, so few distinct answers are cheap."""


@dataclass(frozen=True)
class Branch:
    """One evaluation of the denoiser.

    Args:
        schedule: who acts on the denoiser.
        text: who acts on the text encoder; None is the first step's numbers of `schedule`.
        prompt: asked for instead of the picture's prompt, if not empty.
        gate: how much of each adapter's update passes, output by output; None is all of it.
    """

    schedule: Schedule
    text: TextSchedule | None = None
    prompt: str = ""
    gate: Gate | None = None

    def text_weights(self, step: int, steps: int) -> dict[str, float]:
        """Who acts on the text encoder at this step; text encoders have no schedule by module."""
        if self.text is not None:
            return {i: w for i, w in self.text(step, steps).items() if w}
        first = self.schedule(0, steps)
        return {i: w for i, w in first.items() if isinstance(w, int | float) and w}


def constant(weights: Weights, prompt: str = "", gate: Gate | None = None) -> Branch:
    """A branch in which the same adapters act at every step."""
    fixed = dict(weights)
    return Branch(lambda step, steps: fixed, prompt=prompt, gate=gate)


@dataclass(frozen=True)
class StepView:
    """What an aggregator may look at.

    Args:
        step, steps: position in the denoising.
        halves: names of the leading dimension of every prediction: ("uncond", "cond") under
            classifier-free guidance, else ("cond",).
        size: (height, width) of a prediction, or (tokens,) of a packed one.
        maps: (branch, concept) -> (height', width') of how much each place attends to the words of
            a concept; empty unless the plan watches words (`Attention.words`).
    """

    step: int
    steps: int
    halves: tuple[str, ...]
    size: tuple[int, ...]
    maps: Maps = field(default_factory=dict)


class Aggregator(Protocol):
    """Makes one prediction of several. One instance serves one picture from its first step to its
    last and may remember what it saw."""

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        """Indices of the branches to evaluate at this step; at least one."""
        ...

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        """The prediction of this step.

        Args:
            predictions: branch index -> tensor (halves, channels, height, width), or
                (halves, tokens, channels) where the denoiser works on packed latents.

        Returns:
            A tensor of the same shape.
        """
        ...


class Only:
    """The one branch there is."""

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        return (0,)

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        return predictions[0]


@dataclass(frozen=True)
class Attention:
    """What a plan asks of the attention layers inside a UNet.

    Args:
        words: concept -> words or phrases of the prompt; where each branch attends to them is
            watched.
        shares: cross-attention outputs of the branches are mixed by these, which sum to 1 over the
            branches, and every branch goes on with the mixture; None keeps branches apart.
        apart: regions (n, height, width) in 0..1; in self-attention, places of one region alone do
            not see places of another alone.
    """

    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shares: Shares | None = None
    apart: Shares | None = None


class Guide(Protocol):
    """Moves the latents between steps, down the gradient of a loss on attention maps."""

    def strength(self, step: int, steps: int) -> float:
        """Root mean square of the move before this step, in latents' units; 0 is none."""
        ...

    def loss(self, maps: Maps) -> Any:
        """A scalar tensor; smaller is better."""
        ...


@dataclass(frozen=True)
class Scheduled:
    """A way to denoise with several adapters.

    Args:
        branches: evaluations of the denoiser the aggregator may ask for.
        aggregator: makes a fresh aggregator for each picture.
        passes: denoiser passes per step relative to a plain run, on average; for display.
        curves: adapter id -> strength at 21 evenly spaced points of the run; for display.
        notes: what a person should know about how it came about.
        replaced: id as the branches use it -> adapter to load under that id, for sources that act
            with some of their units or with other weights by module. Such an id names the content.
    """

    branches: tuple[Branch, ...]
    aggregator: Callable[[], Aggregator] = Only
    passes: float = 1.0
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    replaced: Mapping[str, Adapter] = field(default_factory=dict)
    attention: Attention | None = None
    guide: Guide | None = None

    def __post_init__(self) -> None:
        if not self.branches:
            raise ValueError("a schedule needs at least one branch")
