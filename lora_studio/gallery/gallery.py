"""The facade of the collection: everything others may ask of it, and nothing else.

What it acknowledges is on the disk: the file is synced and in place before the row is committed,
and the row is committed before a method returns.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import delete

from lora_studio.adapter import Adapter
from lora_studio.errors import InvalidAdapter, LoraStudioError, NotAllowed, NotFound
from lora_studio.formats import canonical
from lora_studio.gallery import audit
from lora_studio.gallery.blobs import PICTURES, BlobStore, digest, sync
from lora_studio.gallery.entry import EVERYONE, Entry, EntryKind, Viewer, state_of
from lora_studio.gallery.failures import maybe_committed, storage_errors
from lora_studio.gallery.finder import Finder
from lora_studio.gallery.ingest import describe
from lora_studio.gallery.measuring import measure_old
from lora_studio.gallery.moderated import Allowance, Moderated, Review, Visibility, reports
from lora_studio.gallery.presence import Presence
from lora_studio.gallery.statistics import Statistics
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

_VERBS: dict[EntryKind, str] = {"uploaded": "upload", "composed": "compose", "demo": "ship"}


class Gallery(Moderated):
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
        self.statistics = Statistics(blobs.root.parent / "statistics")
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
            alone, files = presence.alone, (blobs, pictures)
            check_database(store, alone=alone)
            clear_leftovers(store, files, orphan_grace, tombstone_grace, alone=alone)
            examine(store, blobs)
            presence.share()
        except BaseException:
            presence.close()
            raise
        return cls(store, blobs, pictures, Finder(store, folder, settings), presence)

    def close(self) -> None:
        """Saves the index cache and closes the database."""
        self._finder.save()
        self._store.close()
        self._presence.close()

    def tidy(self) -> None:
        """What opening does, once more, for a studio that runs for months; and the report cards of
        adapters that are older than those are."""
        clear_leftovers(self._store, (self._blobs, self._pictures, self.statistics))
        examine(self._store, self._blobs)
        measure_old(self._store, self.adapter)

    def add(
        self,
        adapter: Adapter,
        *,
        owner: str = "",
        visibility: Visibility = "public",
        review: Review = "unreviewed",
        allowance: Allowance | None = None,
        tests: Sequence[Mapping[str, Any]] = (),
        recipe: str | None = None,
        kind: EntryKind | None = None,
        thumbnail: bytes = b"",
        measures: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Stores an adapter; when this returns, it survives a crash.

        An adapter that is there already is returned as it is; one that its owner deleted is
        replaced.

        Args:
            visibility: "public", or "private" or "unlisted" to keep it out of searches.
            review: "unreviewed" keeps it out of what is chosen for people other than its owner.
            allowance: what the owner may add; None for no limit.
            kind: where it came from; by default "composed" for one with a recipe or parents, "demo"
                for those owned by "demo", else "uploaded".
            thumbnail: its picture as `thumbnails.thumbnail` wrote it, or nothing.
            measures: the figures of its report card, where the caller has taken them.

        Raises:
            StorageFull: there is no room; nothing was kept.
            TooMany: the allowance is used up; nothing was kept.
            NotAllowed: a moderator holds these very weights back.
        """
        name = self.id_for(adapter.id, owner)
        known = self._finder.find(name)
        if known and known.review_state == "quarantined":
            raise NotAllowed("A moderator has taken these weights out of this gallery.")
        usable = known and not (known.deleted or known.damaged)
        if known and usable and self._blobs.intact(self._finder.blob(known.id)):
            return known
        data = canonical.dump(adapter)
        files = [(self._blobs, data), *([(self._pictures, thumbnail)] if thumbnail else [])]
        picture = digest(thumbnail) if thumbnail else ""
        entry = describe(
            adapter, len(data), recipe or "", kind, owner, visibility, picture, measures
        )
        entry = replace(entry, id=name, review_state=review)
        try:
            for place, content in files:
                place.put(content)
            kept = self._commit(entry, files, tests, allowance)
        except BaseException as error:
            if not maybe_committed(error):
                self._discard(files)
            raise
        return self.get(kept)

    def id_for(self, adapter_id: str, owner: str) -> str:
        """The id an adapter gets when `owner` adds it: its own, unless somebody else keeps the same
        weights to themselves; that they do is not to be learnt from adding them."""
        return _id_for(self._finder.find(adapter_id), adapter_id, owner)

    def _commit(
        self,
        entry: Entry,
        files: Sequence[tuple[BlobStore, bytes]],
        tests: Sequence[Mapping[str, Any]],
        allowance: Allowance | None,
    ) -> str:
        """Writes the row and its line in the audit log; returns the id it has."""
        with self._store.write() as connection:
            for place, content in files:
                if place.size(digest(content)) is None:  # removed by a sweep since it was put
                    place.put(content)
            sha = digest(files[0][1])
            known = self._store.find(connection, entry.id)
            if known and (name := _id_for(known.entry, entry.id, entry.owner)) != entry.id:
                entry = replace(entry, id=name)  # somebody was faster, and keeps it to themselves
                known = self._store.find(connection, name)
            if known and not known.entry.deleted:
                stored = {"blob": sha, "bytes": entry.bytes, "damaged": None}
                self._store.touch(connection, entry.id, **stored)
                return entry.id
            if allowance:
                allowance.check(connection, entry.owner, _VERBS[entry.kind], entry.bytes)
            self._store.insert(connection, entry, sha, tests)
            self._finder.placements.put_centroid(connection, entry)
            by = "studio" if entry.kind == "demo" else entry.owner
            audit.record(connection, by, _VERBS[entry.kind], entry.id, {}, state_of(entry))
        return entry.id

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

    def twins(self, adapter_id: str, viewer: Viewer = EVERYONE) -> list[Twin]:
        """Adapters that `viewer` can find and are the same or nearly, whatever their rank, basis,
        base or file format; none for an adapter that is older than sketches are."""
        entry = self._live(adapter_id)
        vector = unpack(str(entry.measures.get("sketch") or ""))
        if vector is None:
            return []
        likely = self._finder.alike(vector, entry.id, MAX_TWINS, viewer)
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

    def purge(self, adapter_id: str, by: str = "") -> Entry:
        """Removes an adapter for good, deleted or not: its row and, at once, its files.

        Files that another adapter shares stay. There is no way back but a copy of the gallery.
        """
        entry = self.get(adapter_id)
        sha = self._finder.blob(entry.id)
        gone = [(self._blobs, sha), (self.statistics, sha), (self._pictures, entry.thumbnail)]
        with self._store.write() as connection:
            self._store.remove(connection, entry.id, by, "purge")
            connection.execute(delete(reports).where(reports.c.adapter_id == entry.id))
        with self._store.write() as connection:  # the row is gone for good; now its files may go
            kept = self._store.blobs(connection)
            for place, sha in gone:
                if sha and sha not in kept:
                    place.remove(sha)
        self._finder.save()  # its vector leaves the cache too
        return entry

    def _live(self, adapter_id: str) -> Entry:
        entry = self.get(adapter_id)
        if entry.deleted:
            raise NotFound(f"'{entry.title}' was deleted. Restore it to use it again.")
        return entry


def _id_for(known: Entry | None, adapter_id: str, owner: str) -> str:
    if known is None or known.owner == owner or known.review_state == "quarantined":
        return adapter_id
    if known.visibility == "public" and not known.deleted:
        return adapter_id
    return hashlib.sha256(f"{adapter_id}\0{owner}".encode()).hexdigest()
