"""Paints a scene as 64 x 64 pixels: layers of paper with soft shadows, or one of the styles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_studio.demo.image.distances import Field
from lora_studio.demo.image.scene import Pair, Scene
from lora_studio.demo.image.shapes import SHAPES, Part, Tone
from lora_studio.demo.image.words import BACKGROUNDS, COLOURS

SIZE = 64
OVERSAMPLE = 2
CENTRES = {"left": 18.5, "middle": 32.0, "right": 45.5}
Picture = NDArray[Any]
FIXED: dict[Tone, tuple[int, int, int]] = {
    "cream": (252, 242, 222),
    "wood": (126, 88, 66),
    "ink": (46, 42, 58),
}


@dataclass(frozen=True)
class Canvas:
    """Pixel coordinates and the scene's parts with distances in pixels.

    Args:
        x, y: (n, n) pixel coordinates in [0, 64).
        u, v: the same seen from the object: [-1, 1] over its extent.
        parts: the object's parts in drawing order.
    """

    scene: Scene
    x: Field
    y: Field
    u: Field
    v: Field
    parts: list[Part]

    @property
    def outline(self) -> Field:
        """(n, n) distance in pixels to the whole object."""
        return np.minimum.reduce([distance for distance, _ in self.parts])

    @property
    def ground(self) -> Field:
        """(n, n) depth below the ground's edge, in pixels; positive is ground."""
        return self.y - 47 - 1.6 * np.sin(self.x / 9 + self.scene.phase)


def canvas(scene: Scene, wobble: float = 0.0) -> Canvas:
    """The canvas of a scene; `wobble` in pixels lets every edge waver."""
    n = SIZE * OVERSAMPLE
    line = (np.arange(n, dtype=np.float32) + 0.5) / OVERSAMPLE
    x, y = np.meshgrid(line, line)
    px = x + wobble * np.sin(y / 3.1 + scene.phase) + wobble * 0.6 * np.sin(x / 2.3)
    py = y + wobble * np.sin(x / 3.7 + 2 * scene.phase)
    u = (px - CENTRES[scene.position] - scene.dx) / scene.size
    v = (py - 34 - scene.dy) / scene.size
    parts: list[Part] = [(d * scene.size, tone) for d, tone in SHAPES[scene.object](u, v)]
    return Canvas(scene, x, y, u, v, parts)


def colour_of(scene: Scene, tone: Tone) -> Picture:
    """(3,) colour in [0, 1] of one tone of the scene's object."""
    if tone in FIXED:
        return np.array(FIXED[tone], np.float32) / 255
    main = np.array(COLOURS[scene.colour], np.float32) / 255
    if tone == "dark":
        return main * np.float32(0.72)
    if tone == "light":
        return main + (1 - main) * np.float32(0.5) if main.min() < 0.9 else main * np.float32(0.88)
    return main


def cover(distance: Field, softness: float = 0.5) -> Field:
    """Share of each sample that a figure covers; `softness` in pixels either side of its edge."""
    return np.clip(0.5 - distance / (2 * softness), 0, 1)


def lay(picture: Picture, colour: Picture, share: Field) -> Picture:
    """The picture with a colour laid over it."""
    return picture + (colour - picture) * share[..., None]


def backdrop(c: Canvas) -> Picture:
    """(n, n, 3) gradient and ground, with the shadow that the ground's edge throws."""
    top, bottom, ground = (
        np.array(rgb, np.float32) / 255 for rgb in BACKGROUNDS[c.scene.background]
    )
    down = (c.y / 50).clip(0, 1)[..., None]
    picture = top + (bottom - top) * down
    picture = lay(picture, picture * np.float32(0.8), cover(-c.ground - 1.5, 2.0) * 0.6)
    lit = ground * (1.08 - 0.2 * (c.ground / 17).clip(0, 1)[..., None])
    return lay(picture, lit, cover(-c.ground))


def paper(c: Canvas) -> Picture:
    """(n, n, 3) the plain style: cut paper with light from the upper left."""
    picture = backdrop(c)
    shift = ((3 * OVERSAMPLE, 0), (2 * OVERSAMPLE, 0))
    shadow = np.pad(c.outline, shift, constant_values=SIZE)[: len(c.x), : len(c.x)]
    picture = lay(picture, picture * np.float32(0.55), cover(shadow, 3.0) * 0.6)
    light = (1.06 - 0.09 * (c.u + c.v))[..., None].clip(0.85, 1.15)
    for distance, tone in c.parts:
        picture = lay(picture, colour_of(c.scene, tone) * light, cover(distance))
    return picture


def render(scene: Scene | Pair) -> NDArray[np.uint8]:
    """(64, 64, 3) the picture of a scene; the same scene always gives the same picture. The two
    objects of a pair do not reach the middle, so its halves are painted apart."""
    from lora_studio.demo.image.styles import PAINTERS

    if isinstance(scene, Pair):
        left, right = render(scene.left), render(scene.right)
        return np.concatenate([left[:, : SIZE // 2], right[:, SIZE // 2 :]], axis=1)
    picture = PAINTERS[scene.style](scene)
    shape = (SIZE, OVERSAMPLE, SIZE, OVERSAMPLE, 3)
    small = picture.clip(0, 1).reshape(shape).mean((1, 3))
    return (small * 255 + 0.5).astype(np.uint8)
