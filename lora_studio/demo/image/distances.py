"""Signed distances of plane figures, negative inside; every picture is built from these."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[Any]
Point = tuple[float, float]


def circle(x: Field, y: Field, cx: float, cy: float, r: float) -> Field:
    """Distance to a circle."""
    return np.hypot(x - cx, y - cy) - r


def ellipse(x: Field, y: Field, cx: float, cy: float, rx: float, ry: float) -> Field:
    """Distance to an ellipse, to first order near its edge."""
    level = np.hypot((x - cx) / rx, (y - cy) / ry)
    steep = np.hypot((x - cx) / rx**2, (y - cy) / ry**2)
    return level * (level - 1) / np.maximum(steep, 1e-3)


def box(
    x: Field, y: Field, cx: float, cy: float, hx: float, hy: float, round_by: float = 0.0
) -> Field:
    """Distance to a rectangle of half sizes (hx, hy) with rounded corners."""
    qx, qy = np.abs(x - cx) - hx + round_by, np.abs(y - cy) - hy + round_by
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - round_by


def polygon(x: Field, y: Field, corners: Sequence[Point]) -> Field:
    """Distance to a simple polygon: nearest edge, with the sign of the even-odd rule."""
    nearest = np.full_like(x, np.inf)
    inside = np.zeros_like(x, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(wx - t * ex, wy - t * ey))
        if by != ay:
            inside ^= ((ay <= y) != (by <= y)) & (x < ax + (y - ay) * ex / ey)
    return np.where(inside, -nearest, nearest)


def star(x: Field, y: Field, cx: float, cy: float, r: float, inner: float, points: int) -> Field:
    """Distance to a star whose first point is up."""
    corners = []
    for i in range(2 * points):
        radius, angle = (r if i % 2 == 0 else inner), pi * i / points - pi / 2
        corners.append((cx + radius * cos(angle), cy + radius * sin(angle)))
    return polygon(x, y, corners)
