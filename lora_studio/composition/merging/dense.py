"""Merges that are defined on the entries of whole updates: one module at a time, then a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lora_studio.composition.merging.budget import Budget, Spectrum, merge_within, summed
from lora_studio.composition.merging.combine import Combine
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.merging.sparsify import Thin, draws
from lora_studio.composition.method import Inputs
from lora_studio.composition.plan import Merged

EXACT_SIZE = 512
"""Up to this smaller side an exact SVD is taken; beyond it a randomised one with four passes, of at
most so many directions."""


def merge_updates(
    inputs: Inputs,
    thin: Thin,
    combine: Combine,
    budget: Budget,
    scale: float,
    auto_scale: bool,
    *,
    peft: bool = False,
) -> Merged:
    """combine(thin(D_1), thin(D_2), ...) with D_i = w_i s_i B_i A_i (d_out, d_in), cut to a rank.

    A module that only one adapter has is kept as it is: there is nothing to resolve.

    Args:
        thin: drops entries of one update; the generator is one per adapter and module.
        peft: does as PEFT does: D_i = s_i B_i A_i is thinned and votes, the weights come after it,
            and what only one of several adapters has is thinned as well, unless it is DoRA.
    """
    alone = sum(map(bool, inputs.weights)) == 1

    def merge(stack: Stack, most: int | None) -> Spectrum:
        thinned = peft and not alone and stack.modules[0].magnitude is None
        if len(stack.modules) == 1 and not thinned:
            return summed(stack, most)
        ones = (1.0,) * len(stack.weights)
        before, after = (ones, stack.weights) if peft else (stack.weights, ones)
        updates = _Updates(stack, before, lambda x, i: thin(x, draws(inputs.seed, stack, i)))
        return dense_spectrum(combine(updates, after), most, inputs.seed)

    return merge_within(inputs, merge, budget, scale, auto_scale, dense=True)


@dataclass(frozen=True)
class _Updates:
    """The thinned updates of one module, made again each time somebody goes through them, all in
    one place: each is gone when the next is asked for, and memory does not grow with adapters."""

    stack: Stack
    weights: Sequence[float]
    thin: Callable[[np.ndarray, int], np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        first = self.stack.modules[0]
        update = np.empty((first.B.shape[0], first.A.shape[1]), np.float32)
        for i, (module, weight) in enumerate(zip(self.stack.modules, self.weights, strict=True)):
            a, b = (f.astype(np.float32, copy=False) for f in (module.A, module.B))
            np.matmul(b, a, out=update)
            update *= np.float32(weight * module.scaling)
            yield self.thin(update, i)


def dense_spectrum(matrix: np.ndarray, most: int | None, seed: int) -> Spectrum:
    """The largest singular triplets of a dense update (d_out, d_in)."""
    small = min(matrix.shape)
    energy = float(np.vdot(matrix, matrix))
    if small <= EXACT_SIZE:
        return Spectrum(*np.linalg.svd(matrix, full_matrices=False), energy)
    rank = min(most or EXACT_SIZE, small)
    return Spectrum(*_randomised_svd(matrix, rank, np.random.default_rng(seed)), energy)


def _randomised_svd(
    matrix: np.ndarray, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halko, Martinsson and Tropp (2011): a random sketch, sharpened by four power iterations."""
    width = min(rank + 8, *matrix.shape)
    sketch = matrix @ rng.standard_normal((matrix.shape[1], width), dtype=np.float32)
    for _ in range(4):
        q, _ = np.linalg.qr(matrix.T @ np.linalg.qr(sketch)[0])
        sketch = matrix @ q
    q, _ = np.linalg.qr(sketch)  # (d_out, width)
    u, s, vt = np.linalg.svd(q.T @ matrix, full_matrices=False)
    return q @ u[:, :rank], s[:rank], vt[:rank]
