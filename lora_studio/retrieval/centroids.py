"""An adapter's place in the search as its contributor sends it: one vector, without the samples.

Written as "<embedder> <count> <base64 of little-endian float32>", so that it fits in a card.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.embed import Embedder
from lora_studio.retrieval.retriever import MAX_SAMPLES, centroid

MAX_DIM = 8192
MAX_COUNT = 1_000_000
LONGEST = MAX_DIM * 6 + 400
_UNIT = 1e-3


@dataclass(frozen=True)
class Centroid:
    """The mean of an adapter's sample inputs under one embedder.

    Args:
        embedder: id of the embedder; vectors of different ones are never compared.
        count: how many samples it is the mean of.
        vector: (dim,) float32 of length 1.
    """

    embedder: str
    count: int
    vector: np.ndarray

    def to_text(self) -> str:
        """The form a card carries."""
        raw = base64.b64encode(self.vector.astype("<f4").tobytes()).decode()
        return f"{self.embedder} {self.count} {raw}"


def of_samples(samples: Sequence[str], embedder: Embedder) -> Centroid:
    """The centroid of an adapter's sample inputs, the first 32 that differ.

    Raises:
        InvalidRequest: there is no sample.
    """
    texts = list(dict.fromkeys(s.strip() for s in samples if s.strip()))[:MAX_SAMPLES]
    if not texts:
        raise InvalidRequest("There are no sample inputs. Write about 20, one a line.")
    return Centroid(embedder.id, len(texts), centroid(embedder.encode(texts)))


def read_centroid(text: str) -> Centroid:
    """Reads what `Centroid.to_text` wrote; anyone may have sent it.

    Raises:
        InvalidRequest: not of that form, not finite, or not of length 1.
    """
    parts = text[:LONGEST].split()
    if len(parts) != 3 or not parts[1].isdecimal() or len(parts[0]) > 300:
        raise InvalidRequest(
            'The centroid must be "<embedder> <count> <base64>". Run `lora-studio card FOLDER`.'
        )
    try:
        raw = base64.b64decode(parts[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("The centroid is not base64. Run `lora-studio card` again.") from error
    if not raw or len(raw) % 4 or len(raw) > 4 * MAX_DIM:
        raise InvalidRequest(f"The centroid must hold 1 to {MAX_DIM} float32 values.")
    vector = np.frombuffer(raw, "<f4").astype(np.float32)  # (dim,)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or abs(length - 1) > _UNIT:
        raise InvalidRequest("The centroid must be finite and of length 1. Compute it again.")
    return Centroid(parts[0], min(int(parts[1][:7]), MAX_COUNT), vector)
