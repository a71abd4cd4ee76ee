"""How an adapter is placed among the others: the mean embedding of what it was trained on.

LoraRetriever (arXiv 2402.09997): the vector of an adapter is the mean over about 20 of its inputs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from lora_studio.adapter import AdapterCard
from lora_studio.errors import InvalidRequest

Source = Literal["samples", "card", ""]

MAX_SAMPLES = 32


def adapter_texts(card: AdapterCard) -> tuple[list[str], Source]:
    """The texts that place an adapter: its first 32 sample inputs, or its card where it has none.

    Returns:
        (texts, "samples"), ([one text], "card"), or ([], "") for an empty card.
    """
    samples = list(dict.fromkeys(s.strip() for s in card.samples if s.strip()))[:MAX_SAMPLES]
    if samples:
        return samples, "samples"
    parts = [card.title, card.description, ", ".join(card.tags), ", ".join(card.trigger_words)]
    text = ". ".join(part.strip().rstrip(".") for part in parts if part.strip())
    return ([text], "card") if text else ([], "")


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """(n, dim) float32 rows of length 1; raises InvalidRequest for zero or non-finite rows."""
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if rows.ndim != 2 or not rows.size or not np.isfinite(norms).all() or not norms.all():
        raise InvalidRequest("Vectors must be finite and not zero; embed the texts again.")
    return (rows / norms).astype(np.float32)


def centroid(vectors: np.ndarray) -> np.ndarray:
    """(dim,) float32 unit mean of the unit rows of `vectors` (n, dim)."""
    return unit_rows(unit_rows(vectors).mean(0))[0]


def nearest(query: np.ndarray, vectors: np.ndarray) -> tuple[int, float]:
    """Index and cosine of the unit row of `vectors` (n, dim) nearest to `query` (dim,)."""
    cosines = vectors @ unit_rows(query)[0]  # (n,)
    best = int(np.argmax(cosines))
    return best, float(cosines[best])
