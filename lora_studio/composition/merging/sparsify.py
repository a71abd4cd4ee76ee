"""Which entries of an array a merge keeps: the largest, the middle, or a draw."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from lora_studio.composition.merging.modules import Stack

Thin = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Array, random numbers -> the array with entries dropped."""
ROWS = 256
"""How many rows are sorted at once."""


def draws(seed: int, stack: Stack, position: int) -> np.random.Generator:
    """The random numbers of one adapter (its place in the stack) in one module: they do not depend
    on the order in which adapters were given or modules are merged."""
    return np.random.default_rng([seed, zlib.crc32(stack.name.encode()), position])


def keep_largest(x: np.ndarray, density: float) -> np.ndarray:
    """`x` with all but the `density` share of its largest magnitudes set to 0, at least one kept.

    PEFT's and mergekit's count, int(density * size); entries equal to the last one kept stay.
    """
    return _largest(x, max(int(density * x.size), 1))


def keep_middle(x: np.ndarray, density: float, gamma: float) -> np.ndarray:
    """`x` without the `gamma` share of its largest magnitudes, and then without the smallest until
    the `density` share is left. Where both cannot be, fewer of the largest are dropped."""
    keep = max(int(density * x.size), 1)
    top = min(int(gamma * x.size), x.size - keep)
    kept = _largest(x, keep + top)
    return kept - _largest(x, top) if top else kept


def drop_random(x: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """DARE: each entry stays with probability `density` and is then divided by it, so that the
    mean over draws is `x`."""
    if density >= 1:
        return x
    kept = rng.random(x.shape, dtype=np.float32) < density
    return np.where(kept, x / x.dtype.type(density), x.dtype.type(0))


def drop_small_more(
    x: np.ndarray, density: float, epsilon: float, rng: np.random.Generator
) -> np.ndarray:
    """DELLA: in each row, an entry stays with a probability that rises with its magnitude's rank
    from density - epsilon to density + epsilon, and is then divided by it.

    Args:
        x: (rows, n).
        epsilon: 0 < density - epsilon, density + epsilon <= 1.
    """
    if density >= 1:
        return x
    chances = np.linspace(density - epsilon, density + epsilon, x.shape[1], dtype=np.float32)
    found = np.zeros_like(x)
    for at in range(0, len(x), ROWS):
        rows = x[at : at + ROWS]
        chance = np.empty(rows.shape, np.float32)
        np.put_along_axis(chance, np.argsort(np.abs(rows), axis=1), chances[None], axis=1)
        kept = rng.random(rows.shape, dtype=np.float32) < chance
        np.divide(rows, chance, out=found[at : at + ROWS], where=kept)
    return found


def _largest(x: np.ndarray, count: int) -> np.ndarray:
    if count >= x.size:
        return x
    size = np.abs(x)
    least = np.partition(size.ravel(), x.size - count)[x.size - count]
    return np.where(size >= least, x, x.dtype.type(0))
