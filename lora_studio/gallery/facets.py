"""Counting and filtering by a property that an adapter may have several of (tags, ranks)."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable

import numpy as np


class Facet:
    """Values of one property over numbered slots; slots are only ever added."""

    def __init__(self) -> None:
        self._values: list[Hashable] = []
        self._codes: dict[Hashable, int] = {}
        self._slots = array("q")
        self._coded = array("q")

    def add(self, slot: int, values: Iterable[Hashable]) -> None:
        """Gives `slot` these values; empty ones are not counted."""
        for value in dict.fromkeys(values):
            if value == "":
                continue
            code = self._codes.setdefault(value, len(self._values))
            if code == len(self._values):
                self._values.append(value)
            self._slots.append(slot)
            self._coded.append(code)

    def having(self, values: Iterable[Hashable], size: int, *, every: bool = False) -> np.ndarray:
        """(size,) bool mask of the slots that have one of `values`, or every one of them."""
        wanted = set(values)
        codes = [self._codes[value] for value in wanted if value in self._codes]
        slots, coded = np.array(self._slots), np.array(self._coded)
        hits = np.bincount(slots[np.isin(coded, codes)], minlength=size)[:size]
        return hits >= (len(wanted) if every else 1)

    def counts(self, mask: np.ndarray, chosen: Iterable[Hashable], limit: int) -> list[dict]:
        """[{"value", "count"}] over the slots in `mask`, most frequent first.

        At most `limit` values that occur; those in `chosen` are always among them.
        """
        slots, coded = np.array(self._slots, np.int64), np.array(self._coded, np.int64)
        inside = np.bincount(coded[mask[slots]], minlength=len(self._values)).tolist()
        found = [(v, n) for v, n in zip(self._values, inside, strict=True) if n]
        found.sort(key=lambda pair: (-pair[1], str(pair[0]).casefold()))
        shown = found[:limit]
        kept = {value for value, _ in shown}
        inside_of = dict(found)
        shown += [(v, inside_of.get(v, 0)) for v in chosen if v not in kept]
        return [{"value": value, "count": count} for value, count in shown]
