"""Answers searches from memory and keeps that memory equal to the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from lora_studio.errors import LoraStudioError
from lora_studio.gallery.entry import EVERYONE, Entry, Hit, SearchResult, Viewer
from lora_studio.gallery.placements import Placements
from lora_studio.gallery.ranking import Query, Ranking, rank
from lora_studio.gallery.shelf import Filters, Shelf
from lora_studio.gallery.store import Changes, Store
from lora_studio.retrieval.head import usable_head
from lora_studio.retrieval.index import VectorIndex
from lora_studio.retrieval.retriever import adapter_texts, nearest
from lora_studio.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")


class Finder:
    """Search over one store; safe to use from several threads.

    Args:
        folder: where the cache of the vector index is, rebuilt whenever it disagrees with the
            database or was made with another head.
        settings: names the head that is applied to places, as they are read, and to queries.
    """

    def __init__(self, store: Store, folder: Path, settings: Settings) -> None:
        self.head = usable_head(settings)
        self.placements = Placements(store)
        self._store = store
        self._cache = folder / "vectors.index"
        self._lock = threading.RLock()
        self._shelf = Shelf()
        self._seen = (0, 0)  # generation and purges that the shelf reflects
        self._entries: Recent[Entry] = Recent(2048)
        self._samples: Recent[np.ndarray] = Recent(512)
        self._load()

    def resolve(self, name: str) -> str:
        """The id of an adapter, tombstoned ones included; raises NotFound."""
        with self._lock:
            self._refresh()
            return self._shelf.resolve(name)

    def blob(self, adapter_id: str) -> str:
        """Digest of the adapter's file, "" if it has been removed."""
        with self._lock:
            stored = self._shelf.stored(adapter_id)
        return stored[1] if stored else ""

    def damaged(self) -> list[Entry]:
        """Adapters that are not found because their file is missing or altered."""
        with self._lock:
            self._refresh()
            ids = self._shelf.damaged()
        return list(self._read(ids).values())

    def count(self, base: str | None) -> int:
        """How many adapters can be found."""
        with self._lock:
            self._refresh()
            mask = self._shelf.shown()
            for each in self._shelf.masks({"base": [base] if base else []}).values():
                mask &= each
            return int(np.count_nonzero(mask))

    def find(self, adapter_id: str) -> Entry | None:
        """The entry with exactly this id, or None."""
        with self._lock:
            self._refresh()
        return self.entry(adapter_id)

    def entry(self, adapter_id: str) -> Entry | None:
        """The entry of an id that `resolve` gave, or None if it has been removed since."""
        return self._read([adapter_id]).get(adapter_id)

    def _read(self, ids: Sequence[str]) -> dict[str, Entry]:
        return self._entries.fill(self._generations(ids), self._store.entries)

    def _generations(self, ids: Sequence[str]) -> dict[str, int]:
        with self._lock:
            found = {i: self._shelf.stored(i) for i in ids}
        return {i: stored[0] for i, stored in found.items() if stored}

    def search(self, query: Query) -> SearchResult:
        """One page of hits with the facets of all of them."""
        with self._lock:
            self._refresh()
            shown = self._shelf.shown(query.viewer)
            masks = self._shelf.masks(query.filters)
            allowed = shown.copy()
            for mask in masks.values():
                allowed &= mask
            ranking = rank(self._shelf, self._seen_by_head(query), allowed)
            facets = self._shelf.facets(shown & ranking.matched, masks, query.filters)
            found = [(self._shelf.ids[slot], cosine) for slot, cosine in ranking.page]
            words = _words(ranking, self._shelf.ids)
        hits = self._hits(found, query.vector, words)
        return SearchResult(ranking.mode, hits, facets, ranking.total)

    def nearest(
        self,
        vector: np.ndarray,
        k: int,
        filters: Filters,
        among: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        viewer: Viewer = EVERYONE,
    ) -> list[Hit]:
        """The k adapters whose vector is nearest to `vector` (dim,)."""
        with self._lock:
            self._refresh()
            mask = self._shelf.shown(viewer) & ~self._shelf.among(exclude)
            if among is not None:
                mask &= self._shelf.among(among)
            for each in self._shelf.masks(filters).values():
                mask &= each
            near = self._shelf.nearest(self._moved(vector), k, mask)
            found = [(self._shelf.ids[slot], cosine) for slot, cosine in near]
        return self._hits(found, vector, {})

    def alike(
        self, sketch: np.ndarray, exclude: str, limit: int, viewer: Viewer = EVERYONE
    ) -> list[Entry]:
        """Adapters that `viewer` can find and whose sketch is like `sketch`, the likest first."""
        with self._lock:
            self._refresh()
            mask = self._shelf.shown(viewer) & ~self._shelf.among([exclude])
            ids = [self._shelf.ids[slot] for slot in self._shelf.sketches.like(sketch, mask, limit)]
        entries = self._read(ids)
        return [entries[i] for i in ids if i in entries]

    def vector(self, adapter_id: str) -> np.ndarray | None:
        """(dim,) unit vector of an adapter as stored, before any head, or None if it has not been
        placed."""
        return self.placements.centroids([adapter_id]).get(adapter_id)

    def cosine(self, one: np.ndarray, other: np.ndarray) -> float:
        """Of two unit vectors (dim,) of the embedder, under the head."""
        return float(self._moved(one) @ self._moved(other))

    def dim(self) -> int | None:
        """Length of the vectors, or None while there are none."""
        with self._lock:
            self._refresh()
            return self._shelf.vectors.dim if self._shelf.vectors is not None else None

    def save(self) -> None:
        """Writes the index cache if it is out of date; a failure costs a rebuild, nothing else."""
        with self._lock:
            self._refresh()
            stamp, ids = self._stamp()
            index = self._shelf.vectors
            if set(index.ids if index else ()) != ids or VectorIndex.stamp(self._cache) == stamp:
                return
            try:
                if index is None:
                    self._cache.unlink(missing_ok=True)
                    return
                index.save(self._cache, stamp)
            except OSError as error:
                log.warning("the search index was not cached: %s", error)

    def _hits(
        self,
        found: Sequence[tuple[str, float | None]],
        vector: np.ndarray | None,
        words: dict[str, str],
    ) -> list[Hit]:
        entries = self._read([i for i, _ in found])
        sampled = [i for i, e in entries.items() if vector is not None and e.described_by]
        samples = self._samples.fill(self._generations(sampled), self.placements.samples)
        hits: list[Hit] = []
        for adapter_id, cosine in found:
            entry = entries.get(adapter_id)
            if entry is None or entry.deleted:
                continue
            if cosine is not None and vector is not None and adapter_id in samples:
                hits.append(_explained(entry, cosine, vector, samples[adapter_id]))
            else:
                reason = words.get(adapter_id, "")
                hits.append(Hit(entry, cosine, reason, "keyword" if reason else ""))
        return hits

    def _refresh(self) -> None:
        changes = self._store.changes(*self._seen)
        if changes.purged or self._shelf.crowded():
            self._load()
        elif changes.generation != self._seen[0]:
            centroids = self.placements.centroids([row.entry.id for row in changes.rows])
            index = self._shelf.vectors
            if index and any(
                r.entry.id in index and r.entry.id not in centroids for r in changes.rows
            ):
                self._load()  # an adapter was replaced and lost its vector
                return
            self._apply(changes)
            for adapter_id, centroid in centroids.items():
                self._shelf.put(adapter_id, self._moved(centroid))

    def _apply(self, changes: Changes) -> None:
        for row in changes.rows:
            self._shelf.apply(row)
        self._seen = (changes.generation, changes.purges)

    def _load(self) -> None:
        self._shelf = Shelf()
        stamp, ids = self._stamp()
        index = VectorIndex.load(self._cache, stamp)
        if index is None or set(index.ids) != ids:
            centroids = self.placements.centroids(sorted(ids))
            self._forget(sorted(ids - centroids.keys()))
            index = None
            if centroids:
                matrix = np.stack(list(centroids.values()))  # (n, dim)
                moved = self.head(matrix) if self.head else matrix
                index = VectorIndex.build(list(centroids), moved)
        self._apply(self._store.changes(-1, 0))
        self._shelf.place(index)

    def _stamp(self) -> tuple[str, set[str]]:
        """A name of the state of the vectors under this head, and the ids that have one."""
        stamp, ids = self.placements.stamp()
        return (f"{stamp}:{self.head.id}" if self.head else stamp), ids

    def _moved(self, vector: np.ndarray) -> np.ndarray:
        return self.head(vector)[0] if self.head else vector

    def _seen_by_head(self, query: Query) -> Query:
        if self.head is None or query.vector is None:
            return query
        return replace(query, vector=self.head(query.vector)[0])

    def _forget(self, damaged: Sequence[str]) -> None:
        """Removes vectors that are none any more; they are computed again."""
        if not damaged:
            return
        log.error("the vectors of these adapters are damaged: %s", ", ".join(damaged))
        try:
            self.placements.forget(damaged)
        except LoraStudioError as error:
            log.warning("they could not be removed: %s", error)


class Recent(Generic[T]):
    """The values used last, each with the generation it was read at; one for each id."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: dict[str, tuple[int, T]] = {}
        self._lock = threading.Lock()

    def fill(
        self, generations: dict[str, int], read: Callable[[Sequence[str]], dict[str, T]]
    ) -> dict[str, T]:
        """The values of these ids at these generations; those not at hand are read together."""
        with self._lock:
            held = {i: self._values[i] for i in generations if i in self._values}
        found = {i: value for i, (at, value) in held.items() if at == generations[i]}
        missing = [i for i in generations if i not in found]
        found.update(read(missing) if missing else {})
        with self._lock:
            for i, value in found.items():
                self._values.pop(i, None)
                self._values[i] = (generations[i], value)
            while len(self._values) > self._size:
                del self._values[next(iter(self._values))]
        return found


def _explained(entry: Entry, cosine: float, vector: np.ndarray, samples: np.ndarray) -> Hit:
    texts, source = adapter_texts(entry.card())
    if entry.described_by == "samples" and source == "samples":
        row, _ = nearest(vector, samples)
        return Hit(entry, cosine, texts[min(row, len(texts) - 1)], "sample")
    return Hit(entry, cosine, entry.description or entry.title, "card")


def _words(ranking: Ranking, ids: Sequence[str]) -> dict[str, str]:
    if ranking.keywords is None:
        return {}
    return {ids[slot]: ranking.keywords.matched(slot) for slot, _ in ranking.page}
