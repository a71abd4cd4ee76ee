"""TIES on the updates themselves: the one merge that looks at dense updates, a module at a time."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale

EXACT_SIZE = 512
"""Up to this smaller side an exact SVD is taken; beyond it a randomised one with four passes."""


@method(
    "ties_delta",
    title="TIES on updates",
    kind="merging",
    paper="https://arxiv.org/abs/2306.01708",
    uses_model=True,
)
def ties_delta(
    inputs: Inputs,
    *,
    density: Annotated[float, Range(0.05, 1.0, 0.05, "Share of largest entries kept")] = 0.5,
    rank: Annotated[int, Range(0, 512, 1, "Rank of the result; 0 = sum of source ranks")] = 0,
    scale: Annotated[float, Range(0.0, 4.0, 0.05, "Strength of the whole result")] = 1.0,
    auto_scale: Annotated[bool, Help("Choose the strength on sample prompts")] = False,
) -> Merged:
    """Trims small entries, elects a sign for each entry, and averages those that agree with it.

    On dense updates D_i = w_i s_i B_i A_i: keep the `density` share largest in magnitude; sign =
    sgn(sum_i D_i); mean over the kept entries of that sign; then an SVD cut to `rank`. PEFT's
    `ties` does this on A and B separately, which is another and weaker method. One adapter alone
    has nothing to resolve and is returned as it is.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        if len(stack.modules) == 1:
            return stack.concatenated()
        weighted = zip(stack.modules, stack.weights, strict=True)
        merged = _elect([_trim(m.scaled(w).delta(), density) for m, w in weighted])
        kept = min(rank or sum(stack.ranks), *merged.shape)
        u, s, vt = _svd(merged, kept, inputs.seed)
        return vt, u * s

    merged = merge_modules(inputs, merge, dense=True)
    return Merged(*apply_scale(merged, inputs, scale, auto_scale))


def _trim(delta: np.ndarray, density: float) -> np.ndarray:
    keep = int(np.ceil(density * delta.size))
    if keep >= delta.size:
        return delta
    size = np.abs(delta)
    threshold = np.partition(size.ravel(), delta.size - keep)[delta.size - keep]
    return np.where(size >= threshold, delta, np.float32(0))


def _elect(deltas: list[np.ndarray]) -> np.ndarray:
    total = np.zeros_like(deltas[0])
    for delta in deltas:
        total += delta
    sign = np.sign(total)
    total[:] = 0
    count = np.zeros_like(total)
    for delta in deltas:
        agrees = (np.sign(delta) == sign) & (delta != 0)
        total += np.where(agrees, delta, np.float32(0))
        count += agrees
    return total / np.maximum(count, 1)


def _svd(matrix: np.ndarray, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if min(matrix.shape) <= EXACT_SIZE:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        return u[:, :rank], s[:rank], vt[:rank]
    return _randomised_svd(matrix, rank, np.random.default_rng(seed))


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
