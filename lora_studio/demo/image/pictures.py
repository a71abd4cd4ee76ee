"""Pictures and captions in bulk: drawn once, kept as one array file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lora_studio.demo.image.paint import render
from lora_studio.demo.image.scene import Pair, Scene, caption, draw_scene
from lora_studio.demo.image.words import HELD_OBJECTS, OBJECTS, PLAIN, STYLES

SHORT = 0.1
"""Share of captions that leave the background out."""


def everything(rng: np.random.Generator, count: int) -> list[Scene]:
    """Scenes of all objects; half of them plain, the rest in all styles."""
    objects = (*OBJECTS, *HELD_OBJECTS)
    return [
        draw_scene(rng, objects, STYLES if rng.random() < 0.5 else (PLAIN,)) for _ in range(count)
    ]


def captions(scenes: Sequence[Scene | Pair], rng: np.random.Generator) -> list[str]:
    """One caption a scene, some of them short."""
    return [caption(scene, short=bool(rng.random() < SHORT)) for scene in scenes]


def rendered(scenes: Sequence[Scene | Pair], kept: Path | None = None) -> NDArray[np.uint8]:
    """(n, 64, 64, 3) the scenes' pictures, read from `kept` where that has as many."""
    if kept and kept.exists():
        known = np.load(kept)
        if len(known) == len(scenes):
            return known
    drawn = np.stack([render(scene) for scene in scenes])
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, drawn)
    return drawn
