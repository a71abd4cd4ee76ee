"""What is put right when a gallery is opened, and now and then later: files nobody refers to and
adapters deleted long ago go; adapters whose file is missing or altered are marked, never deleted.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Collection, Sequence
from typing import Protocol

from lora_studio.errors import LoraStudioError, StorageFull
from lora_studio.gallery.blobs import BlobStore
from lora_studio.gallery.store import Files, Store

log = logging.getLogger(__name__)

ORPHAN_GRACE = 3600.0
"""Seconds after which a file that no row refers to is removed."""

TOMBSTONE_GRACE = 7 * 24 * 3600.0
"""Seconds during which a deleted adapter can be restored."""

SAMPLE_BYTES = 64 * 1024 * 1024
"""How much of the stored files is read and compared with its digests each time, at most."""

SAMPLE_FILES = 500
"""How many of them, at most."""


WAL_BUG = (3, 7, 0), (3, 51, 3)
"""Versions of SQLite, from and below, in which two connections that write back the log at the same
moment can lose pages of it; see "WAL-reset" in its release notes of 3.51.3."""


class Sweepable(Protocol):
    """Files that are named after digests."""

    def sweep(self, keep: Collection[str], grace_seconds: float, *, alone: bool = False) -> int:
        """Deletes those that are not needed; returns how many."""
        ...


def sqlite_warning(version: tuple[int, ...]) -> str:
    """What to tell of a gallery that several processes use, by this SQLite; "" if all is well.

    One process alone is safe with any: it writes by one connection at a time.
    """
    first, fixed = WAL_BUG
    if not first <= tuple(version) < fixed:
        return ""
    return (
        f"Another process uses this gallery too, and this Python's SQLite "
        f"{'.'.join(map(str, version))} has a rare fault when two write at once, mended in "
        f"{'.'.join(map(str, fixed))}. Update SQLite, or let one process at a time change the "
        "gallery; take copies with `lora-studio backup`."
    )


def check_database(store: Store, *, alone: bool = True) -> None:
    """Refuses a database that SQLite finds damaged; warns of an SQLite that could damage it.

    Args:
        alone: whether no other process uses it.
    """
    if not alone and (told := sqlite_warning(sqlite3.sqlite_version_info)):
        log.warning(told)
    found = store.check()
    if found:
        log.error("the gallery's database is damaged: %s", "; ".join(found))
        raise LoraStudioError(
            f"The gallery's database is damaged ({found[0]}). Restore the gallery from a copy: "
            "lora-studio restore."
        )


def clear_leftovers(
    store: Store,
    files: Sequence[Sweepable],
    orphan_grace: float = ORPHAN_GRACE,
    tombstone_grace: float = TOMBSTONE_GRACE,
    *,
    alone: bool = False,
) -> None:
    """Removes leftovers older than the two graces, in seconds.

    Files go first, so that a full disk gets the room it needs to remove rows; a disk that stays
    full is logged and does not keep the gallery shut.
    """
    try:
        _sweep(store, files, orphan_grace, alone)
        if store.purge(time.time() - tombstone_grace):
            _sweep(store, files, orphan_grace, alone)
    except StorageFull as error:
        log.warning("deleted adapters could not be removed: %s", error)


def _sweep(store: Store, files: Sequence[Sweepable], grace: float, alone: bool) -> None:
    with store.write() as connection:  # nothing is between its rename and its commit
        kept = store.blobs(connection)
        for blobs in files:
            blobs.sweep(kept, grace, alone=alone)


def examine(
    store: Store, weights: BlobStore, limit: int | None = SAMPLE_BYTES, *, only: str = ""
) -> list[Files]:
    """Marks the adapters whose file is missing or altered; takes the mark off those made whole.

    Args:
        limit: bytes of randomly chosen files that are read and compared with their digests; None
            for all. Of the others only the size is compared.
        only: looks at the adapter with this id alone.

    Returns:
        The damaged ones, also those found earlier.
    """
    rows = [row for row in store.files() if only in ("", row.id)]
    read = _chosen(rows, limit)
    damaged: list[Files] = []
    changed: list[Files] = []
    for row in rows:
        whole = _whole(weights, row, row.id in read or row.damaged)
        if not whole:
            damaged.append(row)
        if whole == row.damaged:
            changed.append(row)
    if changed:
        try:
            _mark(store, weights, changed)
        except LoraStudioError as error:
            log.warning("damaged adapters could not be marked: %s", error)
    if damaged:
        named = ", ".join(f"{row.id} ({row.title})" for row in damaged)
        log.error("files of these adapters are missing or altered: %s", named)
    return damaged


def _whole(weights: BlobStore, row: Files, read: bool) -> bool:
    return weights.size(row.blob) == row.bytes and (not read or weights.intact(row.blob))


def _chosen(rows: Sequence[Files], limit: int | None) -> set[str]:
    if limit is None:
        return {row.id for row in rows}
    chosen: set[str] = set()
    for row in random.sample(rows, min(len(rows), SAMPLE_FILES)):
        limit -= row.bytes
        if limit < 0 and chosen:
            break
        chosen.add(row.id)
    return chosen


def _mark(store: Store, weights: BlobStore, rows: Sequence[Files]) -> None:
    with store.write() as connection:
        for row in rows:  # looked at again, since it may have been stored anew meanwhile
            broken = not _whole(weights, row, True)
            store.touch(connection, row.id, damaged=time.time() if broken else None)
