"""Weights that do not let one adapter drown the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_studio.composition.verdict.joint import Joint

GAIN = 0.03
"""By how much the cosine of the sum to its weakest source must rise for weights to be proposed."""


def even_weights(joint: Joint, weights: Sequence[float]) -> list[float] | None:
    """Weights of the given signs and mean size under which the sum is equally like all sources.

    With C the sources' cosines, signs taken in: C u = 1, w_i = u_i / norm_i. Where that asks for a
    weight of the wrong sign, each source gets the same norm instead. None where it gains little.
    """
    w = np.asarray(weights, np.float64)
    signs = np.sign(w)
    if joint.size < 2 or not joint.norms.all():
        return None
    cosines = joint.cosines * np.outer(signs, signs)
    even = np.linalg.lstsq(cosines, np.ones(joint.size), rcond=1e-6)[0]
    if (even <= 0).any():
        even = np.ones(joint.size)
    new = signs * even / joint.norms
    new = np.round(new * np.abs(w).sum() / np.abs(new).sum(), 2)
    if not new.all() or weakest(joint, new) < weakest(joint, w) + GAIN:
        return None
    return new.tolist()


def weakest(joint: Joint, weights: np.ndarray) -> float:
    """Cosine of the weighted sum to the source it is least like, signs taken in."""
    along = joint.products @ weights
    length = float(np.sqrt(max(weights @ along, 0.0)))
    safe = np.where(joint.norms > 0, joint.norms, 1.0)
    return float((np.sign(weights) * along / safe).min() / length) if length else 0.0
