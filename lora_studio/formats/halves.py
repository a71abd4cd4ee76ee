"""Factors as files for other programs hold them: in which numbers, and how exact that is."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.errors import InvalidRequest

DType = Literal["float32", "float16", "bfloat16"]
"""Numbers that factors are written in; magnitudes and alphas are float32 always."""

MAX_LOSS = 5e-4
"""Relative change of an update by rounding; beyond it a module is written in float32."""


def checked_dtype(name: str) -> DType:
    """`name` if there is such a type.

    Raises:
        InvalidRequest: there is not.
    """
    found: DType | None = next((one for one in get_args(DType) if one == name), None)
    if found is None:
        raise InvalidRequest(
            f"dtype is '{name[:40]}'; it must be one of {', '.join(get_args(DType))}."
        )
    return found


def narrowed(module: LoraFactors, dtype: DType) -> LoraFactors:
    """A folded module with factors of this type; those of bfloat16 as its bits, in uint16."""
    if dtype == "bfloat16":
        return replace(module, A=_bfloat16(module.A), B=_bfloat16(module.B))
    return to_half(module) if dtype == "float16" else module


def _bfloat16(x: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, rounded to the nearest, to even ones between two."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def to_half(module: LoraFactors) -> LoraFactors:
    """A folded module in float16, or in float32 where that overflows or loses too much.

    A DoRA's magnitude stays float32: it multiplies the base weight, beside which updates are small.
    The factors are first brought to like size by a power of two, which changes nothing but keeps
    small ones off float16's coarse end.
    """
    left, right = (float(np.sqrt(np.mean(f.astype(np.float64) ** 2))) for f in (module.A, module.B))
    shift = round(np.log2(right / left) / 2) if left and right else 0
    even = replace(module, A=np.ldexp(module.A, shift), B=np.ldexp(module.B, -shift))
    with np.errstate(over="ignore"):
        half = replace(even, A=even.A.astype(np.float16), B=even.B.astype(np.float16))
    return half if loss(half, module) <= MAX_LOSS else even


def loss(after: LoraFactors, before: LoraFactors) -> float:
    """Relative Frobenius distance of two updates, or that of their magnitudes if it is larger."""
    if (after.magnitude is None) != (before.magnitude is None):
        return float("inf")
    with np.errstate(over="ignore", invalid="ignore"):
        size = before.inner(before)
        gap = after.inner(after) - 2 * after.inner(before) + size
        worst = float(np.sqrt(max(gap, 0.0) / size)) if size else float(gap > 0)
        if after.magnitude is not None and before.magnitude is not None:
            difference = after.magnitude.astype(np.float64) - before.magnitude
            scale = max(float(np.linalg.norm(before.magnitude)), 1e-30)
            worst = max(worst, float(np.linalg.norm(difference)) / scale)
    return worst if np.isfinite(worst) else float("inf")


def same_rank(adapter: Adapter) -> Adapter:
    """Every module at the largest rank of its component, zeros after its own ranks; the updates
    stay the same."""
    ranks: dict[str, int] = {}
    for module in adapter.factors.values():
        ranks[module.component] = max(module.rank, ranks.get(module.component, 0))

    def fill(module: LoraFactors) -> LoraFactors:
        extra = ranks[module.component] - module.rank
        a = np.pad(module.A, ((0, extra), (0, 0)))  # (rank, d_in)
        return replace(module, A=a, B=np.pad(module.B, ((0, 0), (0, extra))))  # (d_out, rank)

    return replace(adapter, factors={name: fill(m) for name, m in adapter.factors.items()})
