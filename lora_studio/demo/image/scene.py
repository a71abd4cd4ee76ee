"""What a picture shows, and the caption that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_studio.demo.image.words import BACKGROUNDS, COLOURS, OBJECTS, PLAIN, POSITIONS, Position


@dataclass(frozen=True)
class Scene:
    """One picture of the world.

    Args:
        object, colour, background, position, style: words of `words.py`.
        dx, dy, size: offset in pixels and half height in pixels of the object.
        phase: where the ground's wave begins, in radians.
    """

    object: str
    colour: str
    background: str
    position: Position = "middle"
    style: str = PLAIN
    dx: float = 0.0
    dy: float = 0.0
    size: float = 15.5
    phase: float = 0.0


def draw_scene(
    rng: np.random.Generator,
    objects: Sequence[str] = OBJECTS,
    styles: Sequence[str] = (PLAIN,),
) -> Scene:
    """A random scene; words are drawn uniformly from the given objects and styles."""
    return Scene(
        object=str(rng.choice(objects)),
        colour=str(rng.choice(list(COLOURS))),
        background=str(rng.choice(list(BACKGROUNDS))),
        position=POSITIONS[int(rng.integers(3))],
        style=str(rng.choice(styles)),
        dx=float(rng.uniform(-1.5, 1.5)),
        dy=float(rng.uniform(-1.0, 1.0)),
        size=float(rng.uniform(14.5, 16.5)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def caption(scene: Scene, short: bool = False) -> str:
    """The scene in words; an object in the middle has no position, the plain style no name.

    `short` leaves the background out, as in "a red house on the left".
    """
    text = f"a {scene.colour} {scene.object}"
    if scene.position != "middle":
        text += f" on the {scene.position}"
    if not short:
        text += f", {scene.background} background"
    if scene.style != PLAIN:
        text += f", {scene.style} style"
    return text
