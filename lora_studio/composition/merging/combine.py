"""How the entries of several arrays become one: added, or by TIES' election, which leaves those
that pull against the majority out of the mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np

from lora_studio.composition.merging.sparsify import ROWS

Ballot = Literal["total", "frequency"]
Combine = Callable[[Iterable[np.ndarray], Sequence[float]], np.ndarray]
"""Arrays of one shape, which may be gone through more than once and of which each may be gone when
the next comes, and a weight for each -> one."""


def add(arrays: Iterable[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """sum_i w_i x_i, in the arrays' own type."""
    total = np.zeros(())
    for i, (x, weight) in enumerate(zip(arrays, weights, strict=True)):
        if i == 0:
            total = x.dtype.type(weight) * x
            continue
        for sums, rows in _blocks(total, x):
            sums += x.dtype.type(weight) * rows
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
    # The elected sign times 1 + how many agree, in one array: whole updates are large.
    votes_for = np.empty(tally.shape, np.int8 if len(weights) < 127 else np.int32)
    for elected, sums in _blocks(votes_for, tally):
        elected[:] = np.sign(sums)
        if undecided:
            elected[elected == 0] = undecided
    tally[:] = 0
    for x, weight in zip(arrays, weights, strict=True):
        for sums, elected, rows in _blocks(tally, votes_for, x):
            agrees = (np.sign(rows) == np.sign(elected)) & (rows != 0)
            sums += np.where(agrees, x.dtype.type(weight) * rows, x.dtype.type(0))
            elected += np.sign(elected) * agrees
    for sums, elected in _blocks(tally, votes_for):
        sums /= np.maximum(np.abs(elected) - 1, 1)
    return tally


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Views of the same rows of arrays of one shape, some after others: whole updates of large
    models are too large to copy."""
    for at in range(0, len(arrays[0]), ROWS):
        yield tuple(x[at : at + ROWS] for x in arrays)


def peft_election(votes: Ballot) -> Combine:
    """`elect` as PEFT holds it: where votes are even, the sign is positive."""
    return partial(elect, votes=votes, undecided=1.0)
