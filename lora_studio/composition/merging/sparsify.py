"""Which entries of an array a merge keeps: the largest, the middle, or a draw."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np

from lora_studio.composition.merging.modules import Stack

Thin = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Array, which it may overwrite, and random numbers -> the array with entries dropped."""
ROWS = 64
"""How many rows are gone through at once: an update of a large model is too large to copy."""
CHUNK = 1 << 18


def draws(seed: int, stack: Stack, position: int) -> np.random.Generator:
    """The random numbers of one adapter (its place in the stack) in one module: they do not depend
    on the order in which adapters were given or modules are merged."""
    return np.random.default_rng([seed, zlib.crc32(stack.name.encode()), position])


def keep_largest(x: np.ndarray, density: float) -> np.ndarray:
    """Sets all but the `density` share of the largest magnitudes of `x` to 0; keeps at least one.

    PEFT's and mergekit's count, int(density * size); entries equal to the last one kept stay.
    """
    return _within(x, _least(x, max(int(density * x.size), 1)))


def keep_middle(x: np.ndarray, density: float, gamma: float) -> np.ndarray:
    """Drops the `gamma` share of the largest magnitudes of `x`, and then the smallest until the
    `density` share is left. Where both cannot be, fewer of the largest are dropped."""
    keep = max(int(density * x.size), 1)
    top = min(int(gamma * x.size), x.size - keep)
    return _within(x, _least(x, keep + top), _least(x, top) if top else np.inf)


def drop_random(x: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """DARE: each entry of `x` stays with probability `density` and is then divided by it, so that
    the mean over draws is what it was."""
    if density < 1:
        for rows in _blocks(x):
            kept = rng.random(rows.shape, dtype=np.float32) < density
            rows /= x.dtype.type(density)
            rows[~kept] = 0
    return x


def drop_small_more(
    x: np.ndarray, density: float, epsilon: float, rng: np.random.Generator
) -> np.ndarray:
    """DELLA: in each row of `x`, an entry stays with a probability that rises with its magnitude's
    rank from density - epsilon to density + epsilon, and is then divided by it.

    Args:
        x: (rows, n).
        epsilon: 0 < density - epsilon, density + epsilon <= 1.
    """
    if density >= 1:
        return x
    chances = np.linspace(density - epsilon, density + epsilon, x.shape[1], dtype=np.float32)
    for rows in _blocks(x):
        chance = np.empty(rows.shape, np.float32)
        np.put_along_axis(chance, np.argsort(np.abs(rows), axis=1), chances[None], axis=1)
        kept = rng.random(rows.shape, dtype=np.float32) < chance
        rows /= chance
        rows[~kept] = 0
    return x


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Views of some rows after each other."""
    return (x[at : at + ROWS] for at in range(0, len(x), ROWS))


def _within(x: np.ndarray, low: float, high: float = np.inf) -> np.ndarray:
    """`x` with entries of a magnitude below `low`, and of `high` and more, set to 0."""
    for rows in _blocks(x):
        size = np.abs(rows)
        rows[(size < low) | (size >= high)] = 0
    return x


def _least(x: np.ndarray, count: int) -> float:
    """The magnitude of the entry in place `count`, the largest being the first."""
    if count >= x.size:
        return 0.0
    if x.size < CHUNK or x.dtype != np.float32 or not x.flags.c_contiguous:
        return float(np.partition(np.abs(x).ravel(), x.size - count)[x.size - count])
    # Numbers of one sign are in the order of their bits: counted by the upper half of them, and
    # those that share it with the one looked for by the lower half.
    bits = x.reshape(-1).view(np.uint32)
    chunks = [bits[at : at + CHUNK] for at in range(0, bits.size, CHUNK)]
    uppers = np.zeros(1 << 15, np.int64)
    for chunk in chunks:
        uppers += np.bincount((chunk >> 16) & 0x7FFF, minlength=1 << 15)
    upper, left = _place(uppers, count)
    lowers = np.zeros(1 << 16, np.int64)
    for chunk in chunks:
        mine = chunk[((chunk >> 16) & 0x7FFF) == upper]
        lowers += np.bincount(mine & 0xFFFF, minlength=1 << 16)
    lower, _ = _place(lowers, left)
    return float(np.uint32(upper << 16 | lower).view(np.float32))


def _place(counts: np.ndarray, count: int) -> tuple[int, int]:
    """The bin that holds entry `count`, counted from the last bin down, and which of its entries
    that is."""
    from_above = np.cumsum(counts[::-1])
    steps = int(np.searchsorted(from_above, count))
    before = int(from_above[steps - 1]) if steps else 0
    return len(counts) - 1 - steps, count - before
