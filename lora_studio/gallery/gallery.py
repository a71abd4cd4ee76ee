"""The facade of the collection: everything others may ask of it, and nothing else.

What it acknowledges is on the disk: the file is synced and in place before the row is committed,
and the row is committed before a method returns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.errors import InvalidAdapter, LoraStudioError, NotFound
from lora_studio.formats import canonical
from lora_studio.gallery.blobs import PICTURES, BlobStore, digest, sync
from lora_studio.gallery.entry import Entry, EntryKind
from lora_studio.gallery.failures import maybe_committed, storage_errors
from lora_studio.gallery.finder import Finder
from lora_studio.gallery.ingest import describe
from lora_studio.gallery.presence import Presence
from lora_studio.gallery.searchable import Searchable
from lora_studio.gallery.store import Store
from lora_studio.gallery.tables import DATABASE, FOLDER
from lora_studio.gallery.twins import Twin, twins
from lora_studio.gallery.upkeep import (
    ORPHAN_GRACE,
    TOMBSTONE_GRACE,
    check_database,
    clear_leftovers,
    examine,
)
from lora_studio.rank_units.sketch import unpack
from lora_studio.settings import Settings

MAX_TWINS = 8
"""Most adapters that one is compared with exactly."""

log = logging.getLogger(__name__)


class Gallery(Searchable):
    """Adapters, their cards, vectors, tests and recipes. Safe to use from several threads.

    Use `Gallery.open`. Methods that take an id accept its first 8 characters or more.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        pictures: BlobStore,
        finder: Finder,
        presence: Presence,
    ) -> None:
        super().__init__(store, finder)
        self._blobs = blobs
        self._cosines: dict[tuple[str, str], float] = {}
        self._pictures = pictures
        self._presence = presence

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        orphan_grace: float = ORPHAN_GRACE,
        tombstone_grace: float = TOMBSTONE_GRACE,
    ) -> Gallery:
        """Opens or creates the gallery in settings.data_dir and puts right what a crash left.

        Args:
            orphan_grace: seconds before files without a row are removed.
            tombstone_grace: seconds before deleted adapters are removed for good.

        Raises:
            LoraStudioError: the database is damaged, or from a newer version.
        """
        folder = settings.data_dir / FOLDER
        with storage_errors():
            if not settings.data_dir.exists():
                settings.data_dir.mkdir(parents=True)
                sync(settings.data_dir.parent)
        presence = Presence(settings.data_dir)
        try:
            with storage_errors():
                folder.mkdir(exist_ok=True)
                sync(settings.data_dir)
            blobs = BlobStore(folder / "blobs")
            pictures = BlobStore(folder / "thumbnails", PICTURES)
            store = Store(folder / DATABASE, settings.embedder)
            check_database(store)
            alone, files = presence.alone, (blobs, pictures)
            clear_leftovers(store, files, orphan_grace, tombstone_grace, alone=alone)
            examine(store, blobs)
            presence.share()
        except BaseException:
            presence.close()
            raise
        return cls(store, blobs, pictures, Finder(store, folder / "vectors.index"), presence)

    def close(self) -> None:
        """Saves the index cache and closes the database."""
        self._finder.save()
        self._store.close()
        self._presence.close()

    def tidy(self) -> None:
        """What opening does, once more: for a studio that runs for months."""
        clear_leftovers(self._store, (self._blobs, self._pictures))
        examine(self._store, self._blobs)

    def add(
        self,
        adapter: Adapter,
        *,
        owner: str = "",
        visibility: str = "public",
        tests: Sequence[Mapping[str, Any]] = (),
        recipe: str | None = None,
        kind: EntryKind | None = None,
        thumbnail: bytes = b"",
        measures: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Stores an adapter; when this returns, it survives a crash.

        An adapter that is there already is returned as it is; one that was deleted is replaced.

        Args:
            visibility: "public", or anything else to keep it out of searches.
            kind: where it came from; by default "composed" for one with a recipe or parents, "demo"
                for those owned by "demo", else "uploaded".
            thumbnail: its picture as `thumbnails.thumbnail` wrote it, or nothing.
            measures: the figures of its report card, where the caller has taken them.

        Raises:
            StorageFull: there is no room; nothing was kept.
        """
        known = self._finder.find(adapter.id)
        usable = known and not (known.deleted or known.damaged)
        if known and usable and self._blobs.intact(self._finder.blob(known.id)):
            return known
        data = canonical.dump(adapter)
        files = [(self._blobs, data), *([(self._pictures, thumbnail)] if thumbnail else [])]
        picture = digest(thumbnail) if thumbnail else ""
        entry = describe(
            adapter, len(data), recipe or "", kind, owner, visibility, picture, measures
        )
        try:
            for place, content in files:
                place.put(content)
            self._commit(entry, files, tests)
        except BaseException as error:
            if not maybe_committed(error):
                self._discard(files)
            raise
        return self.get(entry.id)

    def _commit(
        self,
        entry: Entry,
        files: Sequence[tuple[BlobStore, bytes]],
        tests: Sequence[Mapping[str, Any]],
    ) -> None:
        with self._store.write() as connection:
            for place, content in files:
                if place.size(digest(content)) is None:  # removed by a sweep since it was put
                    place.put(content)
            sha = digest(files[0][1])
            known = self._store.find(connection, entry.id)
            if known and not known.entry.deleted:
                stored = {"blob": sha, "bytes": entry.bytes, "damaged": None}
                self._store.touch(connection, entry.id, **stored)
            else:
                self._store.insert(connection, entry, sha, tests)

    def _discard(self, files: Sequence[tuple[BlobStore, bytes]]) -> None:
        try:
            with self._store.write() as connection:
                kept = self._store.blobs(connection)
                for place, content in files:
                    if digest(content) not in kept:
                        place.remove(digest(content))
        except LoraStudioError as error:
            log.warning("a file without a row stays for now: %s", error)

    def adapter(self, adapter_id: str) -> Adapter:
        """The adapter with its factors and card.

        Raises:
            NotFound: it does not exist or is deleted.
            InvalidAdapter: its file is damaged.
        """
        entry = self._live(adapter_id)
        return canonical.read(self.blob_path(entry.id), card=entry.card())

    def twins(self, adapter_id: str) -> list[Twin]:
        """Adapters that can be found and are the same or nearly, whatever their rank, basis, base
        or file format; none for an adapter that is older than sketches are."""
        entry = self._live(adapter_id)
        vector = unpack(str(entry.measures.get("sketch") or ""))
        if vector is None:
            return []
        likely = self._finder.alike(vector, entry.id, MAX_TWINS)
        return twins(entry, likely, self.adapter, self._cosines)

    def blob_path(self, adapter_id: str) -> Path:
        """The stored file, its digest checked. Read-only: it is shared and must not change."""
        entry = self._live(adapter_id)
        sha = self._finder.blob(entry.id)
        if not self._blobs.intact(sha):
            examine(self._store, self._blobs, only=entry.id)
            raise InvalidAdapter(
                f"The stored file of '{entry.title}' is missing or damaged. Upload it again."
            )
        return self._blobs.path(sha)

    def thumbnail_path(self, adapter_id: str) -> Path:
        """The PNG of an adapter, deleted ones included; raises NotFound where it has none."""
        entry = self.get(adapter_id)
        if not entry.thumbnail or not self._pictures.intact(entry.thumbnail):
            raise NotFound(f"'{entry.title}' has no picture.")
        return self._pictures.path(entry.thumbnail)

    def tests(self, adapter_id: str) -> list[dict[str, Any]]:
        """Test prompts stored with an adapter: [{"prompt", "target"}], empty if it has none."""
        return self._store.tests(self._live(adapter_id).id)

    def delete(self, adapter_id: str) -> Entry:
        """Marks an adapter as deleted; `restore` undoes it for seven days."""
        return self._tombstone(adapter_id, time.time())

    def restore(self, adapter_id: str) -> Entry:
        """Takes a deletion back."""
        return self._tombstone(adapter_id, None)

    def purge(self, adapter_id: str) -> Entry:
        """Removes an adapter for good, deleted or not: its row and, at once, its files.

        Files that another adapter shares stay. There is no way back but a copy of the gallery.
        """
        entry = self.get(adapter_id)
        gone = [(self._blobs, self._finder.blob(entry.id)), (self._pictures, entry.thumbnail)]
        self._store.purge(adapter_id=entry.id)
        with self._store.write() as connection:
            kept = self._store.blobs(connection)
            for place, sha in gone:
                if sha and sha not in kept:
                    place.remove(sha)
        self._finder.save()  # its vector leaves the cache too
        return entry

    def damaged(self) -> list[Entry]:
        """Adapters no search finds because their file is missing or altered."""
        return self._finder.damaged()

    def _tombstone(self, adapter_id: str, when: float | None) -> Entry:
        entry = self.get(adapter_id)
        if entry.deleted != (when is not None):
            with self._store.write() as connection:
                self._store.touch(connection, entry.id, deleted=when)
        return self.get(entry.id)

    def _live(self, adapter_id: str) -> Entry:
        entry = self.get(adapter_id)
        if entry.deleted:
            raise NotFound(f"'{entry.title}' was deleted. Restore it to use it again.")
        return entry
