"""Which method comes first for a set of adapters, why, and which is proposed.

Merges are ordered by the cosine of the result to the source it is least like: a merge is as good as
what it makes of its weakest source. docs/verdict.md says how far that agrees with measured answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_studio.composition.verdict.rows import Row

LARGE = 2
"""How many times the largest source rank a proposed result may have."""
TIE = 0.005
"""Scores this near each other count as equal; then the smaller rank is first."""


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Rows with a score, best first, then the others by their titles."""
    scored = sorted((r for r in rows if r.score is not None), key=_place)
    others = sorted((r for r in rows if r.score is None), key=lambda r: (r.how, r.title))
    return [*scored, *others]


def _place(row: Row) -> tuple[int, int, str]:
    return -_step(row), row.most, row.title


def _step(row: Row) -> int:
    assert row.score is not None
    return round(row.score / TIE)


def proposed(rows: Sequence[Row], largest: int) -> Row | None:
    """The best row whose rank is at most twice the largest source's; None where none has a score
    above 0."""
    fit = [r for r in ordered(rows) if r.score is not None and r.most <= LARGE * largest]
    return fit[0] if fit and (fit[0].score or 0) > 0 else None


def reason(
    row: Row, first: Row, signs: Sequence[float], titles: Sequence[str], largest: int
) -> str:
    """One sentence on why a row stands where it does.

    Args:
        first: the row at the top.
        signs: of the weights. largest: the largest source rank.
    """
    if row.cosines is None or first.cosines is None:
        return row.note
    mine, best = (np.array(r.cosines) * np.array(signs) for r in (row, first))
    large = row.most > largest
    size = f", at {row.most / largest:.2g} times the largest source's rank" if large else ""
    if row is first:
        weak = int(np.argmin(mine))
        return f"Least unlike its weakest source: {mine[weak]:.2f} to {titles[weak]}{size}."
    worst = int(np.argmax(best - mine))
    if best[worst] - mine[worst] < TIE:
        return f"As near to every source as {first.title}{size}."
    return f"Keeps less of {titles[worst]}: {mine[worst]:.2f}, not {best[worst]:.2f}{size}."


def proposal(
    row: Row | None, chosen: Row | None, first: Row | None, largest: int
) -> dict[str, Any] | None:
    """What is proposed, as JSON: method, parameters, and why; None where the chosen one is as good.

    Args:
        chosen: the row of the method that is on screen; first: the row at the top.
    """
    if row is None or row.score is None:
        return None
    if chosen is not None and chosen.score is None:
        chosen = None
    if chosen and chosen.most <= LARGE * largest and _step(chosen) >= _step(row):
        return None
    told = f"Of the merges of at most {LARGE} times a source's rank it keeps the weakest source"
    told += f" best (cosine {row.score:.2f}"
    told += f"; {chosen.title}: {chosen.score:.2f})." if chosen else ")."
    if first is not None and first is not row and first.score is not None:
        told += f" {first.title} reaches {first.score:.2f} at rank {first.most}."
    return {"method": row.name, "title": row.title, "params": dict(row.params), "reason": told}
