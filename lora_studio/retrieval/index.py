"""Which vectors are near: an exact FAISS index over unit vectors, kept as a cache on disk.

The file is one header line of JSON (generation, embedder, digest, ids) and the index. The digest
is checked before FAISS sees a byte, because FAISS itself loads altered files without complaint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.retriever import unit_rows

_MAX_HEADER = 64 * 1024 * 1024


class VectorIndex:
    """String ids and their unit vectors under inner product.

    Args:
        dim: length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._faiss = faiss.IndexFlatIP(dim)

    @classmethod
    def build(cls, ids: Sequence[str], vectors: np.ndarray) -> VectorIndex:
        """An index of `vectors` (n, dim); raises InvalidRequest for bad values or repeated ids."""
        index = cls(int(vectors.shape[1]))
        if len(ids) != len(vectors) or len(set(ids)) != len(ids):
            raise InvalidRequest("Every vector needs one id of its own.")
        if len(ids):
            index._faiss.add(index._checked(vectors))
        index.ids = list(ids)
        index._rows = {name: row for row, name in enumerate(index.ids)}
        return index

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def row(self, name: str) -> int | None:
        """Position of `name`, or None."""
        return self._rows.get(name)

    def vector(self, name: str) -> np.ndarray:
        """(dim,) unit vector of `name`."""
        return np.asarray(self._faiss.reconstruct(self._rows[name]))

    def put(self, name: str, vector: np.ndarray) -> None:
        """Adds or replaces the vector (dim,) of `name`."""
        checked = self._checked(np.atleast_2d(vector))
        row = self._rows.get(name)
        if row is None:
            self._faiss.add(checked)
            self._rows[name] = len(self.ids)
            self.ids.append(name)
            return
        matrix = self._faiss.reconstruct_n(0, len(self.ids))  # (n, dim)
        matrix[row] = checked[0]
        self._faiss.reset()
        self._faiss.add(matrix)

    def search(
        self, vector: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> list[tuple[int, float]]:
        """The k nearest rows with their cosine, nearest first.

        Args:
            vector: (dim,) query of any length but zero.
            k: how many; clamped to what there is.
            allowed: (n,) bool mask of rows that may be returned, or None for all.
        """
        query = self._checked(np.atleast_2d(vector))
        k = min(k, len(self.ids) if allowed is None else int(np.count_nonzero(allowed)))
        if k <= 0:
            return []
        cosines, rows = self._faiss.search(query, k, params=_only(allowed))
        pairs = zip(rows[0].tolist(), cosines[0].tolist(), strict=True)
        return [(row, float(np.clip(cosine, -1, 1))) for row, cosine in pairs if row >= 0]

    def save(self, path: Path, stamp: str) -> None:
        """Writes the cache atomically; `stamp` says which state of the database it reflects."""
        payload = faiss.serialize_index(self._faiss).tobytes()
        digest = _digest(self.dim, self.ids, payload)
        header = {"stamp": stamp, "sha256": digest, "dim": self.dim, "ids": self.ids}
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(json.dumps(header).encode() + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, stamp: str) -> VectorIndex | None:
        """The cached index, or None if it is missing, damaged or made for another stamp."""
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline(_MAX_HEADER))
                payload = file.read()
            ids = [str(name) for name in header["ids"]]
            index = cls(int(header["dim"]))
            if header["stamp"] != stamp or header["sha256"] != _digest(index.dim, ids, payload):
                return None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            return None
        index._faiss = faiss.deserialize_index(np.frombuffer(payload, np.uint8))
        index.ids = ids
        index._rows = {name: row for row, name in enumerate(ids)}
        fits = index._faiss.ntotal == len(index._rows) == len(ids)
        return index if fits and index._faiss.d == index.dim else None

    @staticmethod
    def stamp(path: Path) -> str | None:
        """The stamp of the cache at `path`, or None; says nothing about its being whole."""
        try:
            with path.open("rb") as file:
                return str(json.loads(file.readline(_MAX_HEADER))["stamp"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _checked(self, vectors: np.ndarray) -> np.ndarray:
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InvalidRequest(
                f"The index holds vectors of length {self.dim}, not {vectors.shape[-1]}; "
                "use the embedder the gallery was indexed with."
            )
        return np.ascontiguousarray(unit_rows(vectors))


def _only(allowed: np.ndarray | None) -> Any:
    if allowed is None or allowed.all():
        return None
    python: Any = faiss  # its Python forms of these constructors keep what they are given alive
    bits = np.packbits(allowed, bitorder="little")
    return python.SearchParameters(sel=python.IDSelectorBitmap(bits))


def _digest(dim: int, ids: Sequence[str], payload: bytes) -> str:
    digest = hashlib.sha256(json.dumps([dim, list(ids)]).encode())
    digest.update(payload)
    return digest.hexdigest()
