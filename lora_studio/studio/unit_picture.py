"""A picture of a merge's rank units, as SVG: who brought them, and which of them fall together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.rank_units import Clustering, UnitPool, cluster, layout, pool_units

MAX_UNITS = 1024
SIDE, MARGIN, LINE = 360, 24, 18
HUES = ("#6b00d6", "#588500", "#d66088", "#0c4700", "#b973ff", "#5c294b")
REST = "#8a93a0"
INK, PAPER = "#1f2430", "#ffffff"


@dataclass(frozen=True)
class UnitPicture:
    """An SVG and the sentence beneath it."""

    svg: str
    caption: str


def unit_picture(
    merged: Adapter, sources: Sequence[Adapter], weights: Sequence[float], titles: Sequence[str]
) -> UnitPicture | None:
    """The units of the module that the merge changes most, in as many clusters as its rank there.

    Each unit is a dot in its source's hue, larger with its strength, tied to the middle of its
    cluster. None where there is nothing to draw, or more than MAX_UNITS dots.
    """
    norms = {name: module.norm() for name, module in merged.factors.items()}
    name = max(sorted(norms), key=lambda n: norms[n], default="")
    modules = [source.factors.get(name) for source in sources]
    if not any(modules) or sum(m.rank for m in modules if m is not None) > MAX_UNITS:
        return None
    pool = pool_units(modules, weights)
    if len(pool) < 2:
        return None
    groups = cluster(pool, min(max(merged.factors[name].rank, 1), len(pool)))
    places, explained = layout(pool, groups)
    svg = _draw(pool, groups, places, [*map(str, titles)])
    return UnitPicture(
        svg,
        f"the {len(pool)} rank units of the sources in `{name}`, the module this adapter changes "
        f"most, in {groups.k} clusters by k-means; the plane shows {explained:.0%} of how they "
        "differ.",
    )


def _draw(pool: UnitPool, groups: Clustering, places: np.ndarray, titles: list[str]) -> str:
    x = MARGIN + places[:, 0] * (SIDE - 2 * MARGIN)
    y = MARGIN + (1 - places[:, 1]) * (SIDE - 2 * MARGIN)
    radius = 3 + 5 * np.sqrt(pool.energy / (pool.energy.max() or 1.0))
    parts = []
    for label in range(groups.k):
        mine = np.flatnonzero(groups.labels == label)
        cx, cy = x[mine].mean(), y[mine].mean()
        if len(mine) > 1:
            path = "".join(f"M{cx:.1f} {cy:.1f}L{x[i]:.1f} {y[i]:.1f}" for i in mine)
            parts.append(f'<path d="{path}" stroke="{REST}" stroke-width="1" fill="none"/>')
    for i, owner in enumerate(pool.owner):
        parts.append(
            f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="{radius[i]:.1f}" fill="{_hue(owner)}" '
            f'fill-opacity="0.85" stroke="{PAPER}" stroke-width="1"/>'
        )
    for row, title in enumerate(titles):
        top = SIDE + LINE * row + LINE / 2
        parts.append(f'<circle cx="{MARGIN}" cy="{top:.1f}" r="5" fill="{_hue(row)}"/>')
        parts.append(
            f'<text x="{MARGIN + 12}" y="{top + 4:.1f}" font-family="sans-serif" font-size="12" '
            f'fill="{INK}">{escape(_printable(title))}</text>'
        )
    height = SIDE + LINE * len(titles) + MARGIN / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {height:g}" role="img" '
        f'aria-label="Rank units by cluster"><rect width="100%" height="100%" fill="{PAPER}"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _hue(owner: int) -> str:
    return HUES[owner] if owner < len(HUES) else REST


def _printable(title: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in title)
    return plain if len(plain) <= 52 else f"{plain[:50]} …"
