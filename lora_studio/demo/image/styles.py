"""The styles that adapters teach, each a function from a scene to an oversampled picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lora_studio.demo.image.paint import (
    OVERSAMPLE,
    SIZE,
    Canvas,
    Picture,
    backdrop,
    canvas,
    colour_of,
    cover,
    lay,
    paper,
)
from lora_studio.demo.image.scene import Scene
from lora_studio.demo.image.words import PLAIN


def _rgb(red: int, green: int, blue: int) -> Picture:
    return np.array((red, green, blue), np.float32) / 255


def _filled(c: Canvas, picture: Picture) -> Picture:
    for distance, tone in c.parts:
        picture = lay(picture, colour_of(c.scene, tone), cover(distance))
    return picture


def neon(scene: Scene) -> Picture:
    """Glowing tubes along every edge, in front of the background at night."""
    c = canvas(scene)
    picture = backdrop(c) * np.float32(0.16) + _rgb(8, 6, 22)
    glow = colour_of(scene, "main") * 0.9 + 0.06
    for edge in [c.outline, *(d for d, tone in c.parts if tone != "wood")]:
        picture = picture + glow * (0.55 * np.exp(-np.abs(edge) / 2.2))[..., None]
    for edge in [c.outline, *(d for d, tone in c.parts if tone != "wood")]:
        picture = lay(picture, glow * 0.5 + 0.5, cover(np.abs(edge) - 0.7))
    return picture


def blueprint(scene: Scene) -> Picture:
    """White lines and a faint fill on a blue grid."""
    c = canvas(scene)
    fall = 1.1 - 0.25 * (np.hypot(c.x - 32, c.y - 32) / 45)[..., None]
    picture = _rgb(28, 74, 156) * fall
    grid = np.minimum(np.abs((c.x + 4) % 8 - 4), np.abs((c.y + 4) % 8 - 4))
    picture = lay(picture, _rgb(140, 180, 230), cover(grid - 0.3) * 0.4)
    picture = lay(picture, colour_of(scene, "main"), cover(c.outline) * 0.4)
    for distance, _ in c.parts:
        picture = lay(picture, _rgb(240, 246, 255), cover(np.abs(distance) - 0.6))
    return picture


def halftone(scene: Scene) -> Picture:
    """Printed dots: those of the background small, those of the object large."""
    c = canvas(scene)
    flat = backdrop(c)
    sheet = flat * 0.25 + 0.75 * _rgb(250, 244, 230)
    dots = np.hypot((c.x + 2) % 8 - 4, (c.y + 2) % 8 - 4)
    between = np.hypot((c.x + 6) % 8 - 4, (c.y + 6) % 8 - 4)
    nearest = np.minimum(dots, between)
    picture = lay(sheet, flat * 0.8, cover(nearest - 1.5))
    inside = _filled(c, sheet)
    inked = lay(inside * 0.35 + 0.65 * _rgb(252, 248, 238), inside * 0.85, cover(nearest - 2.35))
    picture = lay(picture, inked, cover(c.outline))
    return lay(picture, _rgb(50, 40, 50), cover(np.abs(c.outline) - 0.5) * 0.8)


def pixel(scene: Scene) -> Picture:
    """Blocks of 4 x 4 pixels in few tones."""
    coarse = paper(canvas(scene))
    blocks, side = SIZE // 4, 4 * OVERSAMPLE
    means = coarse.reshape(blocks, side, blocks, side, 3).mean((1, 3))  # (16, 16, 3)
    few = np.round(means * 7) / 7
    picture = few.repeat(side, 0).repeat(side, 1)
    c = canvas(scene)
    seam = np.minimum(np.minimum(c.x % 4, 4 - c.x % 4), np.minimum(c.y % 4, 4 - c.y % 4))
    return lay(picture, picture * np.float32(0.72), cover(seam - 0.35))


def watercolour(scene: Scene) -> Picture:
    """Pale washes with wavering, darker edges on white paper."""
    c = canvas(scene, wobble=0.7)
    sheet = _rgb(252, 250, 244)
    cloud = 0.5 + 0.25 * np.sin(c.x / 7 + scene.phase) * np.cos(c.y / 5) + 0.15 * np.sin(c.y / 9)
    vignette = cover(np.hypot((c.x - 32) / 1.05, c.y - 32) - 28 - 3 * cloud, 7.0)
    picture = sheet + (backdrop(c) - sheet) * (0.5 * vignette * cloud + 0.1 * vignette)[..., None]
    picture = lay(picture, sheet, cover(c.outline - 1.2, 1.5) * 0.9)
    for distance, tone in c.parts:
        wash = cover(distance, 0.8) * (0.4 + 0.4 * cloud)
        rim = cover(np.abs(distance + 0.9) - 0.5, 0.8) * 0.4
        colour = colour_of(scene, tone)
        picture = lay(lay(picture, colour, wash), colour * np.float32(0.75), rim)
    return picture


def stripes(scene: Scene) -> Picture:
    """Broad diagonal stripes across the object, cut paper otherwise."""
    c = canvas(scene)
    picture = paper(c)
    band = np.abs(((c.x + c.y) / np.sqrt(2)) % 7 - 3.5) - 1.6
    stripe = colour_of(scene, "main") * np.float32(0.35) + 0.02
    return lay(picture, stripe, cover(band) * cover(c.outline))


def ink(scene: Scene) -> Picture:
    """Black brush lines and grey washes on rice paper, without colour."""
    c = canvas(scene, wobble=0.35)
    grey = backdrop(c).mean(2)[..., None]
    picture = _rgb(244, 238, 224) * (0.72 + 0.28 * grey)
    solid = paper(c).mean(2)[..., None]
    picture = lay(picture, _rgb(250, 245, 234) * (0.35 + 0.65 * solid), cover(c.outline))
    for distance, _ in c.parts:
        width = 0.9 + 0.5 * np.sin(c.x / 5 + c.y / 4)
        picture = lay(picture, _rgb(24, 22, 26), cover(np.abs(distance) - width))
    return lay(picture, _rgb(24, 22, 26), cover(np.abs(c.ground) - 0.6) * cover(-c.outline))


PAINTERS: dict[str, Callable[[Scene], Picture]] = {
    PLAIN: lambda scene: paper(canvas(scene)),
    "neon": neon,
    "blueprint": blueprint,
    "halftone": halftone,
    "pixel": pixel,
    "watercolour": watercolour,
    "stripes": stripes,
    "ink": ink,
}
