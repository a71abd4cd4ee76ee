"""The facade of the collection: everything others may ask of it, and nothing else.

What it acknowledges is on the disk: the file is synced and in place before the row is committed,
and the row is committed before a method returns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.errors import InvalidAdapter, InvalidRequest, LoraStudioError, NotFound
from lora_studio.formats import canonical
from lora_studio.gallery.blobs import BlobStore
from lora_studio.gallery.entry import Entry, EntryKind, Hit, SearchResult
from lora_studio.gallery.failures import storage_errors
from lora_studio.gallery.finder import Finder
from lora_studio.gallery.ingest import describe
from lora_studio.gallery.ranking import Query, Sort
from lora_studio.gallery.records import Records
from lora_studio.gallery.store import Store
from lora_studio.gallery.upkeep import ORPHAN_GRACE, TOMBSTONE_GRACE, clear_leftovers
from lora_studio.retrieval.retriever import adapter_texts, centroid, unit_rows
from lora_studio.settings import Settings

log = logging.getLogger(__name__)


class Gallery(Records):
    """Adapters, their cards, vectors, tests and recipes. Safe to use from several threads.

    Use `Gallery.open`. Methods that take an id accept its first 8 characters or more.
    """

    def __init__(self, store: Store, blobs: BlobStore, finder: Finder) -> None:
        super().__init__(store)
        self._blobs = blobs
        self._finder = finder

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        orphan_grace: float = ORPHAN_GRACE,
        tombstone_grace: float = TOMBSTONE_GRACE,
    ) -> Gallery:
        """Opens or creates the gallery in settings.data_dir and clears what was left behind.

        Args:
            orphan_grace: seconds before files without a row are removed.
            tombstone_grace: seconds before deleted adapters are removed for good.
        """
        folder = settings.data_dir / "gallery"
        with storage_errors():
            folder.mkdir(parents=True, exist_ok=True)
        blobs = BlobStore(folder / "blobs")
        store = Store(folder / "gallery.sqlite", settings.embedder)
        clear_leftovers(store, blobs, orphan_grace, tombstone_grace)
        return cls(store, blobs, Finder(store, blobs, folder / "vectors.index"))

    def close(self) -> None:
        """Saves the index cache and closes the database."""
        self._finder.save()
        self._store.close()

    @property
    def embedder_id(self) -> str:
        """The embedder whose vectors searches use."""
        return self._store.embedder_id

    def add(
        self,
        adapter: Adapter,
        *,
        owner: str = "",
        visibility: str = "public",
        tests: Sequence[Mapping[str, Any]] = (),
        recipe: str | None = None,
        kind: EntryKind | None = None,
    ) -> Entry:
        """Stores an adapter; when this returns, it survives a crash.

        An adapter that is there already is returned as it is; one that was deleted is replaced.

        Args:
            visibility: "public", or anything else to keep it out of searches.
            kind: where it came from; by default "composed" for one with a recipe or parents, "demo"
                for those owned by "demo", else "uploaded".

        Raises:
            StorageFull: there is no room; nothing was kept.
        """
        known = self._finder.find(adapter.id)
        if known and not known.deleted and self._blobs.intact(self._finder.blob(known.id)):
            return known
        data = canonical.dump(adapter)
        sha = self._blobs.put(data)
        entry = describe(adapter, len(data), recipe or "", kind, owner, visibility)
        try:
            self._commit(entry, sha, data, tests)
        except BaseException:
            self._discard(sha)
            raise
        return self.get(entry.id)

    def _commit(
        self, entry: Entry, sha: str, data: bytes, tests: Sequence[Mapping[str, Any]]
    ) -> None:
        with self._store.write() as connection:
            if self._blobs.size(sha) is None:  # removed by a sweep since it was put
                self._blobs.put(data)
            known = self._store.find(connection, entry.id)
            if known and not known.entry.deleted:
                self._store.touch(connection, entry.id, blob=sha, bytes=len(data))
            else:
                self._store.insert(connection, entry, sha, tests)

    def _discard(self, sha: str) -> None:
        try:
            with self._store.write() as connection:
                if sha not in self._store.blobs(connection):
                    self._blobs.path(sha).unlink(missing_ok=True)
        except LoraStudioError as error:
            log.warning("a file without a row stays until the next start: %s", error)

    def get(self, adapter_id: str) -> Entry:
        """The entry, also of a deleted adapter that can still be restored; raises NotFound."""
        name = self._finder.resolve(adapter_id)
        found = self._finder.entry(name)
        if found is None:
            raise NotFound(f"The adapter '{name[:12]}' has just been removed.")
        return found

    def has(self, adapter_id: str) -> bool:
        """Whether an adapter of this whole id is here and not deleted."""
        known = self._finder.find(adapter_id)
        return known is not None and not known.deleted

    def adapter(self, adapter_id: str) -> Adapter:
        """The adapter with its factors and card.

        Raises:
            NotFound: it does not exist or is deleted.
            InvalidAdapter: its file is damaged.
        """
        entry = self._live(adapter_id)
        return canonical.read(self.blob_path(entry.id), card=entry.card())

    def blob_path(self, adapter_id: str) -> Path:
        """The stored file, its digest checked. Read-only: it is shared and must not change."""
        entry = self._live(adapter_id)
        sha = self._finder.blob(entry.id)
        if not self._blobs.intact(sha):
            self._finder.hide(entry.id)
            log.error("the stored file of adapter %s is missing or damaged", entry.id)
            raise InvalidAdapter(
                f"The stored file of '{entry.title}' is missing or damaged. Upload it again."
            )
        return self._blobs.path(sha)

    def tests(self, adapter_id: str) -> list[dict[str, Any]]:
        """Test prompts stored with an adapter: [{"prompt", "target"}], empty if it has none."""
        return self._store.tests(self._live(adapter_id).id)

    def search(
        self,
        text: str = "",
        vector: np.ndarray | None = None,
        *,
        base: str | None = None,
        tags: Sequence[str] = (),
        contributors: Sequence[str] = (),
        licences: Sequence[str] = (),
        ranks: Sequence[int] = (),
        kinds: Sequence[str] = (),
        sort: Sort = "relevance",
        offset: int = 0,
        limit: int = 48,
    ) -> SearchResult:
        """Finds adapters by what they do; filters apply before anything is ranked.

        With `vector` (dim,), the embedding of `text`, adapters are ranked by cosine; those whose
        title, tags, trigger words or contributor have every word of the text come first. Without
        it they are ranked by their words. Without either, all are listed, newest first. Of several
        tags an adapter must have all; of several values of another filter it must have one.

        Args:
            limit: hits of a page, at most 10,000.
        """
        filters = {
            "base": [base] if base else [],
            "tags": list(tags),
            "contributors": list(contributors),
            "licences": list(licences),
            "ranks": [int(rank) for rank in ranks],
            "kinds": list(kinds),
        }
        return self._finder.search(Query(text, vector, filters, sort, offset, limit))

    def similar(self, adapter_id: str, limit: int = 6) -> list[Hit]:
        """Adapters of the same base whose vectors are nearest to this one's; none without one."""
        entry = self.get(adapter_id)
        vector = self._finder.vector(entry.id)
        if vector is None:
            return []
        return self._finder.nearest(vector, limit, {"base": [entry.base_model]}, exclude=[entry.id])

    def retrieve(
        self,
        vector: np.ndarray,
        *,
        base: str,
        k: int = 3,
        among: Sequence[str] | None = None,
        exclude: Iterable[str] = (),
        kinds: Sequence[str] = (),
    ) -> list[Hit]:
        """The k adapters of a base nearest to an embedded task (dim,): LoraRetriever's top-k.

        Args:
            among: only these ids, or None for all.
            exclude: ids never returned.
            kinds: only entries of these kinds; empty for all.
        """
        filters = {"base": [base], "kinds": list(kinds)}
        return self._finder.nearest(np.asarray(vector), k, filters, among, exclude)

    def vector(self, adapter_id: str) -> np.ndarray | None:
        """(dim,) unit vector that places an adapter, or None where it has none yet."""
        return self._finder.vector(self.get(adapter_id).id)

    def delete(self, adapter_id: str) -> Entry:
        """Marks an adapter as deleted; `restore` undoes it for seven days."""
        return self._tombstone(adapter_id, time.time())

    def restore(self, adapter_id: str) -> Entry:
        """Takes a deletion back."""
        return self._tombstone(adapter_id, None)

    def _tombstone(self, adapter_id: str, when: float | None) -> Entry:
        entry = self.get(adapter_id)
        if entry.deleted != (when is not None):
            with self._store.write() as connection:
                self._store.touch(connection, entry.id, deleted=when)
        return self.get(entry.id)

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

    def _live(self, adapter_id: str) -> Entry:
        entry = self.get(adapter_id)
        if entry.deleted:
            raise NotFound(f"'{entry.title}' was deleted. Restore it to use it again.")
        return entry
