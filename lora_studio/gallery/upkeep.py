"""What is removed when a gallery is opened: files nobody refers to, adapters deleted long ago."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from lora_studio.errors import StorageFull
from lora_studio.gallery.blobs import BlobStore
from lora_studio.gallery.store import Store

log = logging.getLogger(__name__)

ORPHAN_GRACE = 3600.0
"""Seconds after which a file that no row refers to is removed."""

TOMBSTONE_GRACE = 7 * 24 * 3600.0
"""Seconds during which a deleted adapter can be restored."""


def clear_leftovers(
    store: Store, files: Sequence[BlobStore], orphan_grace: float, tombstone_grace: float
) -> None:
    """Removes leftovers older than the two graces, in seconds.

    Files go first, so that a full disk gets the room it needs to remove rows; a disk that stays
    full is logged and does not keep the gallery shut.
    """
    try:
        _sweep(store, files, orphan_grace)
        if store.purge(time.time() - tombstone_grace):
            _sweep(store, files, orphan_grace)
    except StorageFull as error:
        log.warning("deleted adapters could not be removed: %s", error)


def _sweep(store: Store, files: Sequence[BlobStore], grace: float) -> None:
    with store.write() as connection:  # nothing is between its rename and its commit
        kept = store.blobs(connection)
        for blobs in files:
            blobs.sweep(kept, grace)
