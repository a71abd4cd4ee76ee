"""How two updates of one module lie to each other, from inner products of their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOTHING = 1e-6
"""Directions that hold less than this share of the largest are rounding."""

Block = tuple[np.ndarray, np.ndarray]
"""Inner products of the rows of A, and of the columns of B."""


@dataclass(frozen=True, eq=False)
class Angles:
    """One module of two adapters.

    Args:
        first, second: inner products of the units of each with its own.
        cross: of the first's with the second's.
    """

    first: Block
    second: Block
    cross: Block


def angles(modules: Sequence[Angles]) -> np.ndarray:
    """(modules, 5) float32: overlap of the input spaces, and of the output spaces; what of the
    squared norm of the first acts on inputs that the second reads, and the other way round; inner
    product of the updates.

    An overlap is the mean squared cosine of the principal angles between two spaces, over as many
    as the smaller has dimensions: 0 for spaces at right angles, 1 where one holds the other.
    Modules of equal ranks are computed together.
    """
    found = np.zeros((len(modules), 5), np.float32)
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(modules):
        groups.setdefault(one.cross[0].shape, []).append(place)
    for members in groups.values():
        first, second, cross = (
            _stacked([getattr(modules[m], side) for m in members])
            for side in ("first", "second", "cross")
        )
        found[members] = _of_group(first, second, cross)
    return found


def _stacked(blocks: Sequence[Block]) -> Block:
    """(modules, r, r') of both sides, in float64."""
    a, b = (np.stack([block[k] for block in blocks]).astype(np.float64) for k in (0, 1))
    return a, b


def _of_group(first: Block, second: Block, cross: Block) -> np.ndarray:
    """All (modules, r, r'), of one size."""
    roots = [[_whitening(block) for block in side] for side in (first, second)]
    columns = []
    for k in (0, 1):
        (left, of), (right, against) = roots[0][k], roots[1][k]
        between = left @ cross[k] @ right.mT  # cosines of principal angles are its singular values
        small = np.maximum(np.minimum(of, against), 1)
        columns.append(np.minimum((between**2).sum((1, 2)) / small, 1.0))
    on_second = cross[0] @ roots[1][0][0].mT  # rows of A of the first on the second's inputs
    on_first = cross[0].mT @ roots[0][0][0].mT
    columns.append((first[1] * (on_second @ on_second.mT)).sum((1, 2)))
    columns.append((second[1] * (on_first @ on_first.mT)).sum((1, 2)))
    columns.append((cross[0] * cross[1]).sum((1, 2)))
    return np.stack(columns, 1)


def _whitening(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W (modules, r, r) with W gram W^T = 1 on the directions that hold something and 0 on the
    others, and how many hold something (modules,)."""
    values, vectors = np.linalg.eigh(gram)
    alive = values > NOTHING * values[:, -1:]
    alive &= values > 0
    scale = np.where(alive, 1 / np.sqrt(np.where(alive, values, 1.0)), 0.0)
    return scale[:, :, None] * vectors.mT, alive.sum(1)
