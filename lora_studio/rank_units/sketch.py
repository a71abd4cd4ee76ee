"""A short vector by which adapters that do nearly the same are found among very many.

Each of its numbers is the sum over modules of u^T (B A) v, where u and v are signs drawn from the
module's name and shape. It depends on the update alone: not on the basis of the factors, their
rank, nor the dialect they came in. The product of two sketches estimates that of the updates, so
that the cosine of the sketches estimates theirs, to about 1 / sqrt(SIZE) for unlike and far better
for like updates.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from hashlib import shake_128

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors

SIZE = 64


def sketch(adapter: Adapter) -> np.ndarray:
    """(SIZE,) float64 of length 1; zeros for an adapter that changes nothing."""
    total = probes(adapter)
    length = float(np.linalg.norm(total))
    return total / length if length and np.isfinite(length) else np.zeros(SIZE)


def probes(adapter: Adapter) -> np.ndarray:
    """(SIZE,) float64: the sketch at its own length, about sqrt(SIZE) times the update's norm."""
    total = np.zeros(SIZE)
    for name, module in adapter.factors.items():
        total += _of_module(name, module)
    return total


def pack(vector: np.ndarray) -> str:
    """A sketch as text of 172 characters, to three digits; "" for one of zeros."""
    return b64encode(vector.astype("<f2").tobytes()).decode("ascii") if vector.any() else ""


def unpack(text: str) -> np.ndarray | None:
    """(SIZE,) float32 of a text that `pack` wrote; None for any other."""
    try:
        raw = b64decode(text, validate=True)
    except (Error, ValueError):
        return None
    vector = np.frombuffer(raw, "<f2").astype(np.float32) if len(raw) == 2 * SIZE else None
    return vector if vector is not None and np.isfinite(vector).all() else None


def _of_module(name: str, module: LoraFactors) -> np.ndarray:
    left, right = _signs(name, module.d_out, module.d_in)
    up = left @ module.B  # (SIZE, r)
    down = right @ module.A.T  # (SIZE, r)
    return module.scaling * np.einsum("sr,sr->s", up, down, dtype=np.float64)


def _signs(name: str, d_out: int, d_in: int) -> tuple[np.ndarray, np.ndarray]:
    """(SIZE, d_out) and (SIZE, d_in) float32 of 1 and -1; the same on every machine, for ever."""
    count = SIZE * (d_out + d_in)
    seed = f"{name}\0{d_out}\0{d_in}".encode()
    bits = np.unpackbits(np.frombuffer(shake_128(seed).digest(-(-count // 8)), np.uint8))
    signs = bits[:count].astype(np.float32) * 2 - 1
    return signs[: SIZE * d_out].reshape(SIZE, d_out), signs[SIZE * d_out :].reshape(SIZE, d_in)
