"""Finding adapters and placing them in the search: the reading half of the collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.gallery.entry import EVERYONE, Entry, Hit, SearchResult, Viewer
from lora_studio.gallery.finder import Finder
from lora_studio.gallery.ranking import Query, Sort
from lora_studio.gallery.records import Records
from lora_studio.gallery.store import Store
from lora_studio.retrieval.retriever import adapter_texts, centroid, unit_rows


class Searchable(Records):
    """The part of a gallery that finds."""

    def __init__(self, store: Store, finder: Finder) -> None:
        super().__init__(store)
        self._finder = finder

    @property
    def embedder_id(self) -> str:
        """The embedder whose vectors searches use."""
        return self._store.embedder_id

    @property
    def retriever_id(self) -> str:
        """What similarities are measured with: the embedder, and the head over it if there is one.
        Only those of the same are comparable."""
        head = self._finder.head
        return f"{self.embedder_id}+head:{head.id[:12]}" if head else self.embedder_id

    def get(self, adapter_id: str) -> Entry:
        """The entry, also of a deleted adapter that can still be restored; raises NotFound."""
        name = self._finder.resolve(adapter_id)
        found = self._finder.entry(name)
        if found is None:
            raise NotFound(f"The adapter '{name[:12]}' has just been removed.")
        return found

    def digest(self, adapter_id: str) -> str:
        """Digest of an adapter's stored file, which is not looked at."""
        return self._finder.blob(self.get(adapter_id).id)

    def damaged(self) -> list[Entry]:
        """Adapters no search finds because their file is missing or altered."""
        return self._finder.damaged()

    def has(self, adapter_id: str) -> bool:
        """Whether an adapter of this whole id is here and not deleted."""
        known = self._finder.find(adapter_id)
        return known is not None and not known.deleted

    def search(
        self,
        text: str = "",
        vector: np.ndarray | None = None,
        *,
        base: str | None = None,
        modality: str | None = None,
        tags: Sequence[str] = (),
        contributors: Sequence[str] = (),
        licences: Sequence[str] = (),
        ranks: Sequence[int] = (),
        kinds: Sequence[str] = (),
        sort: Sort = "relevance",
        offset: int = 0,
        limit: int = 48,
        viewer: Viewer = EVERYONE,
    ) -> SearchResult:
        """Finds adapters by what they do; filters apply before anything is ranked.

        With `vector` (dim,), the embedding of `text`, adapters are ranked by cosine; those whose
        title, tags, trigger words or contributor have every word of the text come first. Without
        it they are ranked by their words. Without either, all are listed, newest first. Of several
        tags an adapter must have all; of several values of another filter it must have one.

        Args:
            limit: hits of a page, at most 10,000.
            viewer: whose search it is; by default what everyone may find.
        """
        filters = {
            "base": [base] if base else [],
            "modality": [modality] if modality else [],
            "tags": list(tags),
            "contributors": list(contributors),
            "licences": list(licences),
            "ranks": [int(rank) for rank in ranks],
            "kinds": list(kinds),
        }
        return self._finder.search(Query(text, vector, filters, sort, offset, limit, viewer))

    def similar(self, adapter_id: str, limit: int = 6, viewer: Viewer = EVERYONE) -> list[Hit]:
        """Adapters of the same base whose vectors are nearest to this one's; none without one."""
        entry = self.get(adapter_id)
        vector = self._finder.vector(entry.id)
        if vector is None:
            return []
        same = {"base": [entry.base_model]}
        return self._finder.nearest(vector, limit, same, exclude=[entry.id], viewer=viewer)

    def retrieve(
        self,
        vector: np.ndarray,
        *,
        base: str,
        k: int = 3,
        among: Sequence[str] | None = None,
        exclude: Iterable[str] = (),
        kinds: Sequence[str] = (),
        viewer: Viewer = EVERYONE,
    ) -> list[Hit]:
        """The k adapters of a base nearest to an embedded task (dim,): LoraRetriever's top-k.

        Args:
            among: only these ids, or None for all.
            exclude: ids never returned.
            kinds: only entries of these kinds; empty for all.
            viewer: whose search it is; by default what everyone may find.
        """
        filters = {"base": [base], "kinds": list(kinds)}
        return self._finder.nearest(np.asarray(vector), k, filters, among, exclude, viewer)

    def cosine(self, one: np.ndarray, other: np.ndarray) -> float:
        """Similarity of two vectors (dim,) of the embedder, as searches measure it."""
        return self._finder.cosine(one, other)

    def vector(self, adapter_id: str) -> np.ndarray | None:
        """(dim,) unit vector that places an adapter, of the bare embedder whatever the head, or
        None where it has none yet."""
        return self._finder.vector(self.get(adapter_id).id)

    def pending_vectors(self, embedder_id: str) -> list[tuple[str, list[str], str]]:
        """(id, texts, source) of each adapter this embedder has not placed yet, oldest first."""
        waiting = []
        for entry in self._store.without_vectors(embedder_id):
            texts, source = adapter_texts(entry.card())
            if texts:
                waiting.append((entry.id, texts, source))
        return waiting

    def set_vectors(
        self, adapter_id: str, embedder_id: str, vectors: np.ndarray, source: str
    ) -> None:
        """Places an adapter by the embeddings of its texts.

        Args:
            vectors: (n, dim), one row per text of `pending_vectors`, in its order.
            source: "samples" or "card", as `pending_vectors` gave it.
        """
        entry = self.get(adapter_id)
        rows = unit_rows(vectors)  # (n, dim)
        texts, expected = adapter_texts(entry.card())
        if source != expected or len(rows) != len(texts):
            raise InvalidRequest(
                f"'{entry.title}' has {len(texts)} texts of kind '{expected}', not {len(rows)} of "
                f"kind '{source}'. Ask for its texts and embed them again."
            )
        dim = self._finder.dim()
        if embedder_id == self.embedder_id and dim not in (None, rows.shape[1]):
            raise InvalidRequest(
                f"Vectors of {embedder_id} have length {dim} here, not {rows.shape[1]}."
            )
        if not self._finder.placements.put(entry.id, embedder_id, rows, centroid(rows), source):
            raise NotFound(f"The adapter '{entry.id[:12]}' has just been removed.")

    def count(self, base: str | None = None) -> int:
        """How many adapters can be found, of one base or of all."""
        return self._finder.count(base)
