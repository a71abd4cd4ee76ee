"""What a plan decided while one answer was read: who spoke at which token, layer and rank unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_studio.errors import LoraStudioError


@dataclass(frozen=True)
class LoudUnit:
    """A rank unit at one token and layer: its module, adapter (place), number, what it wrote."""

    module: str
    adapter: int
    unit: int
    wrote: float


@dataclass(frozen=True, eq=False)
class Decision:
    """One row's decisions.

    Args:
        tokens: T pieces of text, prompt first. answer: place of the first token of the answer.
        layers: L layer numbers, ascending. adapters: E ids in the order of the plan's terms.
        wrote: (L, T, E) length of what each adapter wrote, over a layer's modules together
            (root of the sum of squares); not negative.
        weights: (L, T, E) mean share of its units that were let pass, over a layer's modules.
        units: (layer place, token) -> its loudest units, loudest first.

    Raises:
        LoraStudioError: shapes that do not belong together, or values that are not finite.
    """

    tokens: tuple[str, ...]
    answer: int
    layers: tuple[int, ...]
    adapters: tuple[str, ...]
    wrote: np.ndarray
    weights: np.ndarray
    units: dict[tuple[int, int], Sequence[LoudUnit]]

    def __post_init__(self) -> None:
        shape = (len(self.layers), len(self.tokens), len(self.adapters))
        for name in ("wrote", "weights"):
            values = getattr(self, name)
            if values.shape != shape or not np.isfinite(values).all() or (values < 0).any():
                raise LoraStudioError(f"The router's decision has a bad '{name}': {values.shape}.")
        if not 0 <= self.answer <= len(self.tokens):
            raise LoraStudioError("The answer begins outside the tokens.")

    def to_dict(self) -> dict[str, Any]:
        """As JSON, numbers rounded to four digits; units as [layer, token, [[module, adapter, unit,
        wrote], ...]]."""
        return {
            "tokens": list(self.tokens),
            "answer": self.answer,
            "layers": list(self.layers),
            "adapters": list(self.adapters),
            "wrote": np.round(self.wrote, 4).tolist(),
            "weights": np.round(self.weights, 4).tolist(),
            "units": [
                [layer, token, [[u.module, u.adapter, u.unit, round(u.wrote, 4)] for u in loud]]
                for (layer, token), loud in self.units.items()
            ],
        }
