"""The sketches of all adapters of a gallery, side by side: who does nearly the same as whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lora_studio.rank_units.sketch import SIZE, unpack

LIKELY = 0.9
"""Cosine of sketches from which updates are compared exactly. Sketches of updates whose cosine is
0.98 lie above it but for one pair in a thousand; of unlike updates, below it always in practice."""


class Sketches:
    """Sketches by slot. Slots are taken in order, each once."""

    def __init__(self) -> None:
        self._rows = np.zeros((16, SIZE), np.float32)
        self._used = 0

    def append(self, measures: Mapping[str, Any]) -> None:
        """Takes the next slot; zeros stand for an adapter without a sketch, like which none is."""
        if self._used == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        vector = unpack(str(measures.get("sketch") or ""))
        self._rows[self._used] = 0 if vector is None else vector
        self._used += 1

    def like(self, vector: np.ndarray, mask: np.ndarray, limit: int) -> list[int]:
        """Slots of `mask` (n,) whose sketch is like `vector` (SIZE,), the likest first; opposite
        updates count as like, since one is the other at a negative weight."""
        cosines = np.abs(self._rows[: self._used] @ vector) * mask
        likely = np.flatnonzero(cosines >= LIKELY)
        return likely[np.argsort(-cosines[likely], kind="stable")][:limit].tolist()
