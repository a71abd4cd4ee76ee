"""Merges that give each adapter of a module one number, found from the updates' inner products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.composition.merging.budget import Budget, Spectrum, merge_within, summed
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.method import Inputs
from lora_studio.composition.plan import Merged

Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Cosines (n, n) of the updates and their shares (n,) -> the direction's coefficients (n,) over the
updates at norm 1; the result need not have norm 1."""


def merge_on_sphere(
    inputs: Inputs, solve: Solve, budget: Budget, scale: float, auto_scale: bool
) -> Merged:
    """The direction that `solve` finds, at the weighted mean of the norms, module by module.

    Shares are |w_i| over their sum; a negative weight turns its update around. One adapter alone is
    its weight times itself, and an adapter that lacks a module pulls it towards 0 by its share.
    """
    sizes = [abs(float(w)) for w in inputs.weights]
    alone = sum(map(bool, sizes)) == 1
    whole = sum(sizes)

    def merge(stack: Stack, most: int | None) -> Spectrum:
        if alone:
            return summed(stack, most)
        weights = np.array(stack.weights)
        shares = np.abs(weights) / whole
        turned = [m.scaled(float(np.sign(w))) for m, w in zip(stack.modules, weights, strict=True)]
        norms = np.array([m.norm() for m in turned])
        found = np.sign(weights) * on_sphere(_cosines(turned, norms), norms, shares, solve)
        return summed(replace(stack, weights=tuple(map(float, found))), most)

    return merge_within(inputs, merge, budget, scale, auto_scale)


def on_sphere(
    cosines: np.ndarray, norms: np.ndarray, shares: np.ndarray, solve: Solve
) -> np.ndarray:
    """(n,) coefficients of the updates themselves; dead updates get none."""
    alive = norms > 0
    found = np.zeros(len(norms))
    if not alive.any():
        return found
    inner = cosines[np.ix_(alive, alive)]
    unit = solve(inner, shares[alive] / shares[alive].sum())
    length = float(np.sqrt(max(unit @ inner @ unit, 0.0)))
    wanted = float(shares @ norms)
    found[alive] = wanted * unit / length / norms[alive] if length > 1e-9 else 0.0
    return found


def _cosines(modules: Sequence[LoraFactors], norms: np.ndarray) -> np.ndarray:
    safe = np.where(norms > 0, norms, 1.0)
    inner = np.array([[one.inner(two) for two in modules] for one in modules])
    found = np.clip(inner / np.outer(safe, safe), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found
