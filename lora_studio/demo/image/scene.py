"""What a picture shows, and the caption that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Pair:
    """Two smaller objects side by side, before the same background and in the same style."""

    left: Scene
    right: Scene


def draw_pair(
    rng: np.random.Generator,
    left: Sequence[str] = OBJECTS,
    right: Sequence[str] = OBJECTS,
    styles: Sequence[str] = (PLAIN,),
) -> Pair:
    """A random pair; words are drawn uniformly from the given objects and styles."""
    first, second = draw_scene(rng, left, styles), draw_scene(rng, right)

    def placed(scene: Scene, position: Position) -> Scene:
        shared = {"background": first.background, "style": first.style, "phase": first.phase}
        return replace(scene, **shared, position=position, dx=scene.dx / 2, size=scene.size - 4.5)

    return Pair(placed(first, "left"), placed(second, "right"))


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


def caption(scene: Scene | Pair, short: bool = False) -> str:
    """The scene in words; an object in the middle has no position, the plain style no name.

    `short` leaves the background out, as in "a red house on the left".
    """
    both = (scene.left, scene.right) if isinstance(scene, Pair) else (scene,)
    text = ", ".join(thing(one) for one in both)
    if not short:
        text += f", {both[0].background} background"
    if both[0].style != PLAIN:
        text += f", {both[0].style} style"
    return text


def thing(scene: Scene) -> str:
    """The object in words, and where it is."""
    text = f"a {scene.colour} {scene.object}"
    return text if scene.position == "middle" else f"{text} on the {scene.position}"
