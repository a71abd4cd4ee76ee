"""Modules whose update is unlike all others: a label to look closer, never a reason to refuse.

The thresholds lie well beyond what honest adapters have: of 56, trained for this project and by
others, none had a module 18 times as strong as its median one, nor 7 times as narrow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STRONG = 30.0
"""Times the median norm from which an update stands out."""

NARROW = 8.0
"""Part of the median number of directions below which an update stands out."""

LEAST = 8
"""Modules below which there is no telling what is usual."""

_NAMED = 3


def standouts(norms: Mapping[str, float], directions: Mapping[str, float]) -> list[str]:
    """A sentence for each way in which modules stand out.

    Args:
        norms: module -> Frobenius norm of its update.
        directions: module -> effective rank of its update, of those that are not zero.
    """
    told: list[str] = []
    moving = [norm for norm in norms.values() if norm > 0]
    if len(moving) >= LEAST:
        usual = float(np.median(moving))
        strong = {name: norm / usual for name, norm in norms.items() if norm > STRONG * usual}
        if strong:
            told.append(_sentence(strong, "far stronger than the others", "times the median norm"))
    if len(directions) >= LEAST:
        usual = float(np.median(list(directions.values())))
        narrow = {name: n for name, n in directions.items() if n < usual / NARROW}
        if narrow:
            beside = f"directions, where the median is {usual:.1f}"
            told.append(_sentence(narrow, "far narrower than the others", beside, least=True))
    return told


def _sentence(found: Mapping[str, float], what: str, unit: str, *, least: bool = False) -> str:
    ordered = sorted(found.items(), key=lambda pair: (pair[1] if least else -pair[1], pair[0]))
    named = ", ".join(f"{name[:120]} ({value:.3g} {unit})" for name, value in ordered[:_NAMED])
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    whose = "module's update is" if len(found) == 1 else "modules' updates are"
    return f"{len(found):,} {whose} {what}: {named}{more}. Look closer before you rely on it."
