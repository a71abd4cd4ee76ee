"""An embedder that embeds a text once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lora_studio.retrieval.embed import Embedder


class Remembered:
    """Wraps an embedder; what benchmarks ask shares prompts and cards."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder, self.id, self.dim = embedder, embedder.id, embedder.dim
        self._known: dict[str, np.ndarray] = {}

    def encode(self, texts: Iterable[str]) -> np.ndarray:
        """(n, dim) unit rows."""
        listed = list(texts)
        new = [text for text in dict.fromkeys(listed) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.encode(new), strict=True))
        return np.stack([self._known[text] for text in listed])
