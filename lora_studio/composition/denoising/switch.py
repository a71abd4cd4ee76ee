"""LoRA Switch: the adapters take turns."""

from __future__ import annotations

from typing import Annotated

from lora_studio.composition.denoising.actors import USUAL_STEPS, actors, curves
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.schedule import Branch, Scheduled

PAPER = "https://arxiv.org/abs/2402.16843"


@method("switch", title="LoRA Switch", kind="denoising", paper=PAPER)
def switch(
    inputs: Inputs,
    *,
    tau: Annotated[int, Range(1, 20, 1, "Steps before the next adapter takes over")] = 5,
) -> Scheduled:
    """Lets one adapter act at a time, in turn, in the order they were given.

    At step t = 1, 2, ... adapter floor(((t - 1) mod N tau) / tau) + 1 acts, at its own weight, on
    the denoiser and on the prompt's embedding alike. As fast as a plain run. The first adapter sets
    the layout, so begin with the content. N rounds of tau steps must fit into the run more than
    once; `composite` asks all adapters at every step instead.
    """
    cast = actors(inputs)

    def acting(step: int, steps: int) -> dict[str, float]:
        actor = cast[step // tau % len(cast)]
        return {actor.id: actor.weight}

    notes: tuple[str, ...] = ()
    if len(cast) > 1 and len(cast) * tau > USUAL_STEPS:
        notes = (
            f"One round takes {len(cast) * tau} steps. In a shorter run the last adapters never "
            "act: choose a smaller tau or more steps.",
        )
    return Scheduled((Branch(acting, acting),), curves=curves(acting), notes=notes)
