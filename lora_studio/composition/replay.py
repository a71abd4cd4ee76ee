"""Whether a composition that was made again is the one that a recipe tells of."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.rank_units.sketch import SIZE, probes

TOLERANCE = 1e-3
"""Largest difference, relative to the Frobenius norm of the update, that counts as the same
composition: decompositions differ in their last digits from one linear algebra to the next."""

State = Literal["identical", "within tolerance", "different", "nothing to compare with"]


@dataclass(frozen=True)
class Replayed:
    """What the comparison says.

    Args:
        difference: estimate of |D' - D| / |D| for the updates, 0 if identical, None if unknown.
    """

    state: State
    difference: float | None = None

    @property
    def good(self) -> bool:
        return self.state != "different"


def fingerprint(adapter: Adapter) -> dict[str, Any]:
    """What a recipe's `result` keeps of the adapter, {norm, probes}: its Frobenius norm, and
    u^T D v for SIZE fixed vectors of signs, as base64 of little-endian float32."""
    packed = b64encode(probes(adapter).astype("<f4").tobytes()).decode("ascii")
    return {"norm": adapter.norm(), "probes": packed}


def compare(adapter: Adapter, result: Any) -> Replayed:
    """Compares `adapter` with the `result` of a recipe: digest first, then the probes.

    A random vector of signs gives E (u^T E v)^2 = |E|^2, so that the mean over SIZE of them tells
    |E| to a fifth.
    """
    told = result if isinstance(result, Mapping) else {}
    if told.get("sha256") == adapter.id:
        return Replayed("identical", 0.0)
    wanted, norm = _unpacked(told.get("probes")), told.get("norm")
    if wanted is None or not isinstance(norm, float) or not norm > 0:
        known = isinstance(told.get("sha256"), str)
        return Replayed("different" if known else "nothing to compare with")
    gap = probes(adapter) - wanted
    difference = float(np.sqrt(np.mean(gap**2))) / norm
    return Replayed("within tolerance" if difference <= TOLERANCE else "different", difference)


def _unpacked(text: Any) -> np.ndarray | None:
    try:
        raw = b64decode(text, validate=True) if isinstance(text, str) else b""
    except (Error, ValueError):
        return None
    vector = np.frombuffer(raw, "<f4").astype(np.float64) if len(raw) == 4 * SIZE else None
    return vector if vector is not None and np.isfinite(vector).all() else None
