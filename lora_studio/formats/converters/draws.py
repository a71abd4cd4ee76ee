"""Random numbers as torch draws them from a seed, which some adapters save instead of a tensor."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import numpy as np


@lru_cache(maxsize=2)
def permutation(seed: int, n: int) -> np.ndarray:
    """(n,) torch.randperm of a generator of its own."""
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()


@lru_cache(maxsize=1)
def vera(seed: int, rank: int, d_out: int, d_in: int) -> tuple[np.ndarray, np.ndarray]:
    """A (r, d_in), B (d_out, r): uniform with Kaiming's bound, A drawn first."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    a = _uniform((rank, d_in), d_in, generator)
    return a, _uniform((d_out, rank), rank, generator)


@lru_cache(maxsize=1)
def randlora(
    seed: int, rank: int, d_out: int, d_in: int, sparsity: float
) -> tuple[np.ndarray, np.ndarray]:
    """A (r, 1, smaller side), B (larger side, bases, r), each divided by its deviation.

    Args:
        sparsity: s, for numbers that are 1 and -1 with probability 1 / (2 s) each, else 0.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    small, large = min(d_out, d_in), max(d_out, d_in)
    bases = -(-small // rank)
    a = torch.rand((rank, 1, small), generator=generator)
    b = torch.rand((large, bases, rank), generator=generator)
    edge = 1 / (2 * sparsity)
    a, b = ((t > 1 - edge).float() - (t < edge).float() for t in (a, b))
    return (a / a.std()).numpy(), (b / b.std()).numpy()


def _uniform(shape: tuple[int, ...], fan_in: int, generator: object) -> np.ndarray:
    import torch

    bound = sqrt(3.0) * (sqrt(2.0) / sqrt(fan_in))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator).numpy()  # type: ignore[arg-type]
