"""Regions as numbers: how much of each place of a prediction belongs to an adapter."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lora_studio.composition.region import checked_region, mask_bytes
from lora_studio.errors import InvalidRequest


class Mask(Protocol):
    """A region that can be drawn at any size."""

    def at(self, height: int, width: int) -> np.ndarray:
        """(height, width) float64 in 0..1: the share of each cell that lies inside."""
        ...


@dataclass(frozen=True)
class Box:
    """A rectangle, in shares of width and height."""

    x0: float
    y0: float
    x1: float
    y1: float

    def at(self, height: int, width: int) -> np.ndarray:
        rows, columns = _covered(self.y0, self.y1, height), _covered(self.x0, self.x1, width)
        return np.outer(rows, columns)


@dataclass(frozen=True, eq=False)
class Painted:
    """A painted region: (height, width) float64 in 0..1."""

    values: np.ndarray

    def at(self, height: int, width: int) -> np.ndarray:
        rows = _pooling(self.values.shape[0], height)
        return rows @ self.values @ _pooling(self.values.shape[1], width).T


def mask_of(region: Mapping[str, Any]) -> Mask:
    """The mask of a source's region; without one it is everywhere.

    Raises:
        InvalidRequest: no region, or a mask that is no readable PNG.
    """
    checked = checked_region(region)
    if "mask" in checked:
        return Painted(_painted(checked["mask"]))
    return Box(*checked.get("box", (0.0, 0.0, 1.0, 1.0)))


def feathered(mask: np.ndarray, feather: float) -> np.ndarray:
    """The mask under a Gaussian of standard deviation `feather` widths; 1 everywhere stays 1."""
    if not feather:
        return mask
    height, width = mask.shape
    deviation = feather * width
    return _gaussian(height, deviation) @ mask @ _gaussian(width, deviation).T


def _covered(low: float, high: float, cells: int) -> np.ndarray:
    """(cells,) share of each cell of [0, 1] that lies in [low, high]."""
    edges = np.arange(cells + 1) / cells
    inside = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return np.clip(inside * cells, 0.0, 1.0)


def _pooling(have: int, want: int) -> np.ndarray:
    """(want, have) whose rows sum to 1: each wanted cell's mean over the cells it covers."""
    edges, own = np.arange(want + 1) / want, np.arange(have + 1) / have
    overlap = np.minimum(edges[1:, None], own[None, 1:]) - np.maximum(edges[:-1, None], own[:-1])
    return np.clip(overlap, 0.0, None) * want


def _gaussian(cells: int, deviation: float) -> np.ndarray:
    """(cells, cells) whose rows sum to 1, so that borders of the picture do not darken."""
    place = np.arange(cells)
    weights = np.exp(-0.5 * ((place[:, None] - place[None]) / deviation) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _painted(text: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(mask_bytes(text)), formats=["PNG"]) as picture:
            grey = picture.convert("L")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidRequest(
            "The mask of a region cannot be read as a PNG. Save it again as an 8-bit PNG."
        ) from error
    return np.asarray(grey, dtype=np.float64) / 255.0
