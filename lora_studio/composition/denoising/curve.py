"""Strength that follows the run: from a start to a stop, with ramps."""

from __future__ import annotations

from typing import Annotated, Literal

from lora_studio.composition.denoising.actors import actors, curves, together
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.schedule import Branch, Scheduled
from lora_studio.errors import InvalidRequest


@method("curve", title="Start and stop", kind="denoising")
def curve(
    inputs: Inputs,
    *,
    start: Annotated[float, Range(0.0, 1.0, 0.05, "Share of the run before they act")] = 0.3,
    stop: Annotated[float, Range(0.0, 1.0, 0.05, "Share of the run at which they stop")] = 1.0,
    fade: Annotated[float, Range(0.0, 0.5, 0.05, "Share of the run a ramp takes")] = 0.0,
    who: Annotated[
        Literal["others", "first", "all"], Help("Who comes and goes; the rest act throughout")
    ] = "others",
) -> Scheduled:
    """Adds adapters only from a start to a stop of the run, with ramps if wanted.

    w_i(p) = w_i max(0, min(1, (p - start) / fade, (stop - p) / fade)) at progress p, the middle of
    each step; without fade w_i from start to stop. A start at 0 and a stop at 1 do not fade. The
    updates of all who act add up, as in `cat`. The first adapter, of the content, can act all along
    and the others, of style, later. The prompt's embedding is under all adapters throughout. As
    fast as a plain run.
    """
    if start >= stop:
        raise InvalidRequest(f"start is {start:g} and stop is {stop:g}; start must come first.")
    cast = actors(inputs)
    follows = {"all": cast, "first": cast[:1], "others": cast[1:]}[who]
    always = {"all": [], "first": cast[1:], "others": cast[:1]}[who]
    weights = together(cast)

    def acting(step: int, steps: int) -> dict[str, float]:
        level = _level((step + 0.5) / steps, start, stop, fade)
        found = dict.fromkeys(weights, 0.0)
        for share, some in ((level, follows), (1.0, always)):
            for actor in some:
                found[actor.id] += share * actor.weight
        return found

    return Scheduled((Branch(acting, lambda step, steps: weights),), curves=curves(acting))


def _level(progress: float, start: float, stop: float, fade: float) -> float:
    if not start <= progress < stop:
        return 0.0
    rise = (progress - start) / fade if fade and start > 0 else 1.0
    fall = (stop - progress) / fade if fade and stop < 1 else 1.0
    return min(1.0, rise, fall)
