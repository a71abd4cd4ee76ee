"""Exact sums at the rank of one adapter, where adapters share a factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.merging.params import AutoScale, Scale
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale
from lora_studio.errors import IncompatibleAdapters

SAME = 4e-3
"""Share of a factor that may lie outside the common space: the rounding of bfloat16."""


@method(
    "shared_factor",
    title="Shared factor",
    kind="merging",
    group="averages",
    paper="https://arxiv.org/abs/2403.12313",
    uses_model=True,
)
def shared_factor(inputs: Inputs, *, scale: Scale = 1.0, auto_scale: AutoScale = False) -> Merged:
    """Adds adapters that were trained around the same A (or B) exactly, without more rank.

    If the rows of every A_i lie in those of one of them, A_i = C_i A and sum_i w_i D_i =
    (sum_i w_i s_i B_i C_i) A: FFA-LoRA, where all train B around one frozen A. Else the same with
    the columns of B. Fed-SB, B R_i A with both frozen, is this with R_i folded into either. The
    shared factor is given back as it stands. `cat` is exact for any adapters, at the sum of ranks.

    Raises:
        IncompatibleAdapters: a module whose adapters share neither factor.
    """

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        modules = stack.modules
        found = expressed([m.A for m in modules])
        if found:
            at, turns = found
            return modules[at].A, _sum(stack, lambda m, i: m.B @ turns[i])
        found = expressed([m.B.T for m in modules])
        if found:
            at, turns = found
            return _sum(stack, lambda m, i: turns[i].T @ m.A), modules[at].B
        raise IncompatibleAdapters(
            f"'{stack.name}' shares neither A nor B between the adapters, so their sum needs more "
            "rank. Use cat, which is exact, or svd, which is not and keeps the rank."
        )

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))


def _sum(stack: Stack, part: Callable[[LoraFactors, int], np.ndarray]) -> np.ndarray:
    pairs = zip(stack.modules, stack.weights, strict=True)
    return np.sum([w * m.scaling * part(m, i) for i, (m, w) in enumerate(pairs)], axis=0)


def expressed(factors: Sequence[np.ndarray]) -> tuple[int, list[np.ndarray]] | None:
    """(place of the shared factor F, C_i with F_i = C_i F), or None if there is none.

    Args:
        factors: (r_i, d) each; the first of the largest rank is tried.
    """
    at = int(np.argmax([len(f) for f in factors]))
    basis = factors[at].astype(np.float64)
    inverse = np.linalg.pinv(basis)
    turns = [f.astype(np.float64) @ inverse for f in factors]
    turns[at] = np.eye(len(basis))
    outside = (
        np.linalg.norm(f - c @ basis) > SAME * np.linalg.norm(f)
        for f, c in zip(factors, turns, strict=True)
    )
    return None if any(outside) else (at, turns)
