"""Reading everything a gallery keeps and telling what is damaged."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from lora_studio.errors import NotFound
from lora_studio.gallery.blobs import PICTURES, BlobStore
from lora_studio.gallery.placements import Placements
from lora_studio.gallery.presence import using
from lora_studio.gallery.store import Store
from lora_studio.gallery.tables import DATABASE, FOLDER
from lora_studio.gallery.upkeep import examine
from lora_studio.settings import Settings


@dataclass(frozen=True)
class Findings:
    """What `verify` found.

    Args:
        adapters, bytes: rows, and the size of the files they refer to.
        problems: what is damaged, a sentence each; empty if all is well.
        strays: files no row refers to; the next start removes those older than an hour.
    """

    adapters: int
    bytes: int
    problems: tuple[str, ...]
    strays: int


def verify(settings: Settings) -> Findings:
    """Checks the database and the digest of every file; a studio may be running.

    Adapters whose file is damaged are marked, so that no search finds them, and the mark is taken
    off those made whole.
    """
    home = settings.data_dir / FOLDER
    if not (home / DATABASE).is_file():
        raise NotFound(f"There is no gallery in {settings.data_dir}. Set LORA_STUDIO_DATA.")
    weights, pictures = BlobStore(home / "blobs"), BlobStore(home / "thumbnails", PICTURES)
    with using(settings.data_dir), closing(Store(home / DATABASE, settings.embedder)) as store:
        problems = [f"database: {found}" for found in store.check(thoroughly=True)]
        problems += [
            f"the file of '{row.title}' ({row.id}) is missing or altered: {weights.path(row.blob)}"
            for row in examine(store, weights, None)
        ]
        rows, placements = store.files(), Placements(store)
        placed = placements.stamp()[1]
        problems += [
            f"the picture of '{row.title}' ({row.id}) is missing or altered"
            for row in rows
            if row.thumbnail and not pictures.intact(row.thumbnail)
        ]
        problems += [
            f"the vector of {adapter_id} is not one; the next start computes it again"
            for adapter_id in sorted(placed - placements.centroids(sorted(placed)).keys())
        ]
        with store.read() as connection:
            kept = store.blobs(connection)
        strays = sum(1 for place in (weights, pictures) for _ in place.strays(kept))
    return Findings(len(rows), sum(row.bytes for row in rows), tuple(problems), strays)
