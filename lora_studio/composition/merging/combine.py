"""How the entries of several arrays become one: added, or by TIES' election, which leaves those
that pull against the majority out of the mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import numpy as np

Ballot = Literal["total", "frequency"]
Combine = Callable[[Iterable[np.ndarray], Sequence[float]], np.ndarray]
"""Arrays of one shape, which may be gone through more than once, and a weight for each -> one."""


def add(arrays: Iterable[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """sum_i w_i x_i, in the arrays' own type."""
    total = np.zeros(())
    for i, (x, weight) in enumerate(zip(arrays, weights, strict=True)):
        total = x.dtype.type(weight) * x if i == 0 else total + x.dtype.type(weight) * x
    return total


def elect(
    arrays: Iterable[np.ndarray],
    weights: Sequence[float],
    *,
    votes: Ballot = "total",
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
    ballots = arrays if votes == "total" else map(np.sign, arrays)
    tally = add(ballots, [1.0] * len(weights))
    sign = np.sign(tally)
    if undecided:
        sign[sign == 0] = undecided
    tally = np.zeros_like(tally)
    count = np.zeros_like(tally)
    for x, weight in zip(arrays, weights, strict=True):
        agrees = (np.sign(x) == sign) & (x != 0)
        tally += np.where(agrees, x.dtype.type(weight) * x, x.dtype.type(0))
        count += agrees
    return tally / np.maximum(count, 1)


def peft_election(votes: Ballot) -> Combine:
    """`elect` as PEFT holds it: where votes are even, the sign is positive."""
    return partial(elect, votes=votes, undecided=1.0)
