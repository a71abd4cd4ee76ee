"""GLoRA: W' = W + (W a + b) with low-rank a and b (2306.07967), as LyCORIS saves it.

Only b is an update by itself. W a is of low rank too, but which update it is depends on the base
model's weight, so that a file with a nonzero a stands for no LoRA without the base.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.low_rank import Pair

ROLES = ("a1", "a2", "b1", "b2")
_ZERO = 1e-12


def convert(path: str, found: Mapping[str, np.ndarray]) -> tuple[Pair, int]:
    """(the update's factors without alpha, the file's rank).

    Raises:
        InvalidAdapter: a factor is missing, shapes do not agree, or a is not zero.
    """
    missing = [role for role in ROLES if role not in found]
    if missing:
        raise InvalidAdapter(f"A GLoRA factor is missing for '{path}': {', '.join(missing)}.")
    left, right = _product(path, found["a1"], found["a2"])
    size = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    if size and float(np.linalg.norm(left @ right)) > _ZERO * size:
        raise InvalidAdapter(
            f"This is a GLoRA adapter whose update of '{path}' multiplies the base model's own "
            "weight, so that it is no LoRA by itself. Merge it into its base model with LyCORIS, "
            "then extract a LoRA from the difference.",
            "adapter-type",
        )
    pair = Pair(*_product(path, found["b1"], found["b2"]))
    return pair, pair.rank


def _product(path: str, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(d_out, r) and (r, d_in) in float64; LyCORIS once saved them the other way round."""
    one, two = (t.reshape(len(t), -1).astype(np.float64) for t in (first, second))
    ways = [(a, b) for a, b in ((one, two), (two, one)) if a.shape[1] == b.shape[0]]
    if not ways:
        raise InvalidAdapter(
            f"The GLoRA factors of '{path}' have shapes {first.shape} and {second.shape}; expected "
            "(d_out, r) and (r, d_in)."
        )
    return min(ways, key=lambda way: way[0].shape[1])
