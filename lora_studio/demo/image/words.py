"""The words of the picture world and their colours: what the base model is shown, and what is
held back for the adapters."""

from __future__ import annotations

from typing import Literal

Rgb = tuple[int, int, int]
Position = Literal["left", "middle", "right"]

OBJECTS = ("ball", "box", "house", "tree", "boat", "cup")
"""Objects the base model knows."""
HELD_OBJECTS = ("star", "heart", "moon", "fish", "mushroom", "cat")
"""Objects that only adapters teach."""
PLAIN = "plain"
"""The style of the base model; captions do not name it."""
STYLES = ("neon", "blueprint", "halftone", "pixel", "watercolour", "stripes", "ink")
"""Styles that only adapters teach."""
POSITIONS: tuple[Position, ...] = ("left", "middle", "right")

COLOURS: dict[str, Rgb] = {
    "red": (214, 60, 62),
    "orange": (238, 140, 52),
    "yellow": (246, 206, 70),
    "green": (84, 168, 92),
    "blue": (58, 112, 206),
    "purple": (138, 84, 182),
    "pink": (240, 142, 178),
    "white": (248, 246, 240),
}
BACKGROUNDS: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "sky": ((132, 190, 230), (206, 230, 240), (150, 196, 150)),
    "sand": ((246, 226, 190), (240, 206, 160), (214, 172, 122)),
    "mint": ((176, 224, 206), (214, 240, 226), (128, 190, 172)),
    "sunset": ((250, 176, 120), (244, 140, 140), (158, 86, 122)),
    "dusk": ((92, 76, 140), (150, 104, 160), (66, 54, 104)),
    "midnight": ((22, 28, 58), (42, 52, 96), (16, 20, 42)),
}
"""Top and bottom of the gradient, and the ground, of every background."""


def known_words() -> tuple[str, ...]:
    """Every word of every caption, those of the adapters included, each once."""
    grammar = ("a", "on", "the", "left", "right", ",", "background", "style")
    return (*grammar, *COLOURS, *OBJECTS, *HELD_OBJECTS, *BACKGROUNDS, *STYLES)
