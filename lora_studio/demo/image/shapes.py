"""How each object of the world looks: flat parts in drawing order, each with a tone.

Coordinates: the object fills about [-1, 1] x [-1, 1], y points down, the ground is at y = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from lora_studio.demo.image.distances import Field, box, circle, ellipse, polygon, star

Tone = Literal["main", "dark", "light", "cream", "wood", "ink"]
Part = tuple[Field, Tone]


def ball(x: Field, y: Field) -> list[Part]:
    """A ball with two bands and a highlight."""
    whole = circle(x, y, 0, 0.1, 0.9)
    band = np.maximum(whole, np.abs(circle(x, y, -1.3, 1.2, 1.75)) - 0.13)
    return [(whole, "main"), (band, "cream"), (ellipse(x, y, -0.32, -0.36, 0.2, 0.13), "light")]


def parcel(x: Field, y: Field) -> list[Part]:
    """A box with a lid and a ribbon."""
    return [
        (box(x, y, 0, 0.32, 0.8, 0.68, 0.06), "main"),
        (box(x, y, 0, -0.36, 0.94, 0.24, 0.08), "dark"),
        (box(x, y, 0, 0.2, 0.15, 0.8), "cream"),
    ]


def house(x: Field, y: Field) -> list[Part]:
    """A house with roof, chimney, door and window."""
    return [
        (box(x, y, 0.48, -0.62, 0.14, 0.34), "wood"),
        (box(x, y, 0, 0.42, 0.74, 0.58), "main"),
        (polygon(x, y, [(-1, -0.12), (0, -1), (1, -0.12)]), "dark"),
        (box(x, y, -0.3, 0.62, 0.19, 0.38, 0.08), "cream"),
        (box(x, y, 0.34, 0.4, 0.19, 0.19), "cream"),
    ]


def tree(x: Field, y: Field) -> list[Part]:
    """A tree with a round crown of three clouds."""
    crown = np.minimum(circle(x, y, 0, -0.46, 0.54), circle(x, y, -0.44, -0.02, 0.46))
    crown = np.minimum(crown, circle(x, y, 0.44, -0.02, 0.46))
    return [
        (box(x, y, 0, 0.66, 0.15, 0.36, 0.05), "wood"),
        (crown, "main"),
        (circle(x, y, -0.14, -0.5, 0.24), "light"),
    ]


def boat(x: Field, y: Field) -> list[Part]:
    """A sailing boat with two sails."""
    return [
        (box(x, y, 0.0, -0.2, 0.05, 0.8), "wood"),
        (polygon(x, y, [(0.1, -0.95), (0.1, 0.32), (0.82, 0.32)]), "cream"),
        (polygon(x, y, [(-0.1, -0.7), (-0.1, 0.32), (-0.7, 0.32)]), "light"),
        (polygon(x, y, [(-1, 0.44), (1, 0.44), (0.62, 1), (-0.62, 1)]), "main"),
    ]


def cup(x: Field, y: Field) -> list[Part]:
    """A cup with a handle and a band."""
    body = polygon(x, y, [(-0.8, -0.62), (0.52, -0.62), (0.36, 0.96), (-0.64, 0.96)]) - 0.04
    handle = np.abs(ellipse(x, y, 0.54, 0.08, 0.36, 0.42)) - 0.1
    band = np.maximum(body, np.abs(y - 0.28) - 0.13)
    return [
        (handle, "dark"),
        (body, "main"),
        (band, "cream"),
        (ellipse(x, y, -0.14, -0.62, 0.66, 0.16), "light"),
    ]


def five_star(x: Field, y: Field) -> list[Part]:
    """A five-pointed star with a lighter one inside."""
    return [
        (star(x, y, 0, 0.05, 1.0, 0.46, 5) - 0.05, "main"),
        (star(x, y, 0, 0.05, 0.5, 0.23, 5), "light"),
    ]


def heart(x: Field, y: Field) -> list[Part]:
    """A heart with a highlight."""
    lobes = np.minimum(circle(x, y, -0.46, -0.34, 0.5), circle(x, y, 0.46, -0.34, 0.5))
    tip = polygon(x, y, [(-0.87, -0.06), (0, -0.4), (0.87, -0.06), (0, 0.98)])
    return [(np.minimum(lobes, tip), "main"), (ellipse(x, y, -0.5, -0.46, 0.2, 0.14), "light")]


def moon(x: Field, y: Field) -> list[Part]:
    """A crescent with a crater."""
    disc = circle(x, y, 0, 0, 0.98)
    crescent = np.maximum(disc, -circle(x, y, 0.52, -0.16, 0.74))
    return [(crescent, "main"), (circle(x, y, -0.56, 0.3, 0.15), "dark")]


def fish(x: Field, y: Field) -> list[Part]:
    """A fish that swims to the left."""
    return [
        (polygon(x, y, [(0.4, 0.02), (1.05, -0.56), (0.9, 0.04), (1.05, 0.6)]), "dark"),
        (polygon(x, y, [(-0.3, -0.4), (0.1, -0.86), (0.36, -0.3)]), "dark"),
        (ellipse(x, y, -0.22, 0.04, 0.78, 0.54), "main"),
        (ellipse(x, y, 0.0, 0.12, 0.22, 0.15), "light"),
        (circle(x, y, -0.58, -0.08, 0.17), "cream"),
        (circle(x, y, -0.6, -0.08, 0.09), "ink"),
    ]


def mushroom(x: Field, y: Field) -> list[Part]:
    """A mushroom with a spotted cap."""
    cap = np.maximum(ellipse(x, y, 0, 0.06, 1.0, 1.0), y - 0.08) - 0.04
    return [
        (box(x, y, 0, 0.5, 0.3, 0.5, 0.2), "cream"),
        (cap, "main"),
        (circle(x, y, -0.06, -0.58, 0.2), "cream"),
        (circle(x, y, -0.58, -0.2, 0.15), "cream"),
        (circle(x, y, 0.5, -0.24, 0.18), "cream"),
    ]


def cat(x: Field, y: Field) -> list[Part]:
    """The head of a cat."""
    return [
        (polygon(x, y, [(-0.86, -1), (-0.1, -0.4), (-0.84, 0.1)]), "main"),
        (polygon(x, y, [(0.86, -1), (0.1, -0.4), (0.84, 0.1)]), "main"),
        (ellipse(x, y, 0, 0.2, 0.92, 0.74), "main"),
        (polygon(x, y, [(-0.7, -0.72), (-0.36, -0.4), (-0.68, -0.2)]), "light"),
        (polygon(x, y, [(0.7, -0.72), (0.36, -0.4), (0.68, -0.2)]), "light"),
        (ellipse(x, y, -0.36, 0.08, 0.13, 0.19), "ink"),
        (ellipse(x, y, 0.36, 0.08, 0.13, 0.19), "ink"),
        (polygon(x, y, [(-0.15, 0.38), (0.15, 0.38), (0, 0.56)]), "ink"),
    ]


SHAPES: dict[str, Callable[[Field, Field], list[Part]]] = {
    "ball": ball,
    "box": parcel,
    "house": house,
    "tree": tree,
    "boat": boat,
    "cup": cup,
    "star": five_star,
    "heart": heart,
    "moon": moon,
    "fish": fish,
    "mushroom": mushroom,
    "cat": cat,
}
