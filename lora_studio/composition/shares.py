"""The ownership shares of a merge as text, a byte each, to be kept beside its recipe."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import numpy as np

STEPS = 255


def packed(shares: Mapping[str, np.ndarray], ranks: Mapping[str, int], sources: int) -> str:
    """`Merged.shares` as base64 of bytes: modules in the order of their names, sources within a
    module, units within a source. "" where no module has any; a module without has zeros.

    Args:
        ranks: module -> rank, of the whole result. sources: number of adapters as given.
    """
    if not shares:
        return ""
    parts = [
        np.asarray(shares.get(name, np.zeros((sources, ranks[name]))), np.float32)
        for name in sorted(ranks)
    ]
    whole = b"".join(np.rint(np.clip(p, 0, 1) * STEPS).astype(np.uint8).tobytes() for p in parts)
    return base64.b64encode(whole).decode()


def unpacked(text: str, ranks: Mapping[str, int], sources: int) -> dict[str, np.ndarray]:
    """Module -> (sources, rank) from `packed`, only modules of which something is known; empty if
    the text does not belong to such an adapter."""
    try:
        raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        return {}
    if len(raw) != sources * sum(ranks.values()):
        return {}
    found, start = {}, 0
    for name in sorted(ranks):
        end = start + sources * ranks[name]
        module = raw[start:end].reshape(sources, ranks[name]) / np.float32(STEPS)
        if module.any():
            found[name] = module
        start = end
    return found
