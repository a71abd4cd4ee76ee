"""How the entries of several arrays become one: added, or by TIES' election, which leaves those
that pull against the majority out of the mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

Combine = Callable[[Sequence[np.ndarray], Sequence[float]], np.ndarray]
"""Arrays of one shape and a weight for each -> one array."""


def add(arrays: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """sum_i w_i x_i, in the arrays' own type."""
    total = np.zeros_like(arrays[0])
    for x, weight in zip(arrays, weights, strict=True):
        total += x.dtype.type(weight) * x
    return total


def elect(
    arrays: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    votes: Literal["total", "frequency"] = "total",
    undecided: float = 0.0,
) -> np.ndarray:
    """sum_i w_i x_i over the x_i of the elected sign, divided by how many there are (at least 1).

    Args:
        arrays: one per adapter, of one shape; 0 does not vote.
        weights: applied after the vote, as PEFT does. Where they are in the arrays already, and
            here 1, a negative weight turns its adapter's votes around.
        votes: the elected sign is that of sum_i x_i ("total") or of sum_i sgn(x_i) ("frequency").
        undecided: the sign elected where the votes add up to 0; at 0 the entry becomes 0.
    """
    tally = np.zeros_like(arrays[0])
    for x in arrays:
        tally += x if votes == "total" else np.sign(x)
    sign = np.sign(tally)
    if undecided:
        sign[sign == 0] = undecided
    tally[:] = 0
    count = np.zeros_like(tally)
    for x, weight in zip(arrays, weights, strict=True):
        agrees = (np.sign(x) == sign) & (x != 0)
        tally += np.where(agrees, x.dtype.type(weight) * x, x.dtype.type(0))
        count += agrees
    return tally / np.maximum(count, 1)
