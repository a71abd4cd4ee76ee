"""Where each adapter lies in the search: the vectors of its texts and their centroid, as stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection, and_, delete, insert, select

from lora_studio.errors import InvalidRequest
from lora_studio.gallery import tables as t
from lora_studio.gallery.entry import Entry
from lora_studio.gallery.store import Store, bump, chunks, counter
from lora_studio.retrieval.centroids import read_centroid


class Placements:
    """Reads and writes the vectors of one store, for the embedder the store is set to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.embedder_id = store.embedder_id

    def put(
        self,
        adapter_id: str,
        embedder_id: str,
        samples: np.ndarray,
        centroid: np.ndarray,
        source: str,
    ) -> bool:
        """Stores sample vectors (n, dim) and their centroid (dim,); False if there is no row."""
        with self._store.write() as connection:
            if not self._store.touch(connection, adapter_id):
                return False
            same = and_(
                t.vectors.c.adapter_id == adapter_id, t.vectors.c.embedder_id == embedder_id
            )
            connection.execute(delete(t.vectors).where(same))
            connection.execute(
                insert(t.vectors).values(
                    adapter_id=adapter_id,
                    embedder_id=embedder_id,
                    source=source,
                    dim=samples.shape[1],
                    samples=samples.astype("<f2").tobytes(),
                    centroid=centroid.astype("<f4").tobytes(),
                )
            )
            bump(connection, "vectors")
        return True

    def put_centroid(self, connection: Connection, entry: Entry) -> None:
        """Places a new adapter at the centroid its contributor sent, if it is of this embedder."""
        if not entry.centroid or entry.samples:
            return
        sent = read_centroid(entry.centroid)
        if sent.embedder != self.embedder_id:
            return
        known = select(t.vectors.c.dim).where(t.vectors.c.embedder_id == self.embedder_id).limit(1)
        dim = connection.execute(known).scalar()
        if dim not in (None, len(sent.vector)):
            raise InvalidRequest(
                f"Vectors of {sent.embedder} have length {dim} here; the centroid has "
                f"{len(sent.vector)}. Compute it again with `lora-studio card`."
            )
        connection.execute(
            insert(t.vectors).values(
                adapter_id=entry.id,
                embedder_id=self.embedder_id,
                source="centroid",
                dim=len(sent.vector),
                samples=sent.vector.astype("<f2").tobytes(),
                centroid=sent.vector.astype("<f4").tobytes(),
            )
        )
        bump(connection, "vectors")

    def stamp(self) -> tuple[str, set[str]]:
        """A name of the state of the vectors, and the ids that have one."""
        with self._store.read() as connection:
            identity, version = counter(connection, "identity"), counter(connection, "vectors")
            query = select(t.vectors.c.adapter_id).where(
                t.vectors.c.embedder_id == self.embedder_id
            )
            ids = set(connection.execute(query).scalars())
        return f"{identity}:{self.embedder_id}:{version}", ids

    def centroids(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Vectors (dim,) of those of `ids` that have one; what is no unit vector is left out."""
        return {
            name: np.frombuffer(raw, "<f4")
            for name, dim, raw in self._vectors("centroid", ids)
            if _sound(raw, dim)
        }

    def forget(self, ids: Sequence[str]) -> None:
        """Removes vectors, so that they are computed again."""
        with self._store.write() as connection:
            for name in ids:
                same = and_(
                    t.vectors.c.adapter_id == name, t.vectors.c.embedder_id == self.embedder_id
                )
                connection.execute(delete(t.vectors).where(same))
                self._store.touch(connection, name)
            bump(connection, "vectors")

    def samples(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Sample vectors (n, dim) of those of `ids` that have them."""
        return {
            name: np.frombuffer(raw, "<f2").reshape(-1, dim).astype(np.float32)
            for name, dim, raw in self._vectors("samples", ids)
        }

    def _vectors(self, column: str, ids: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
        query = select(t.vectors.c.adapter_id, t.vectors.c.dim, t.vectors.c[column])
        query = query.where(t.vectors.c.embedder_id == self.embedder_id)
        with self._store.read() as connection:
            for chunk in chunks(ids):
                chosen = query.where(t.vectors.c.adapter_id.in_(chunk))
                yield from (tuple(row) for row in connection.execute(chosen))


def _sound(centroid: bytes, dim: int) -> bool:
    if len(centroid) != 4 * dim:
        return False
    vector = np.frombuffer(centroid, "<f4")
    return abs(float(vector @ vector) - 1) < 1e-3  # not so for a number that is none, either
