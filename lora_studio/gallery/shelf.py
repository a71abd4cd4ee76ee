"""What every search needs, held in memory: properties, words and vectors of all adapters.

It follows the database by the generation of its last change and is never the truth.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lora_studio.errors import NotFound
from lora_studio.gallery.entry import EVERYONE, Entry, Viewer
from lora_studio.gallery.facets import Facet
from lora_studio.gallery.keywords import KeywordIndex
from lora_studio.gallery.sketches import Sketches
from lora_studio.gallery.store import Stored
from lora_studio.retrieval.index import VectorIndex

Filters = Mapping[str, Sequence[Hashable]]

FACETS = ("base", "modality", "tags", "contributors", "licences", "ranks", "kinds")

_SHOWN = 60
_LEAST_PREFIX = 8
_LEFT = 64
"""Slots left dead that are never too many."""


class Shelf:
    """Numbered slots, one per adapter; a slot is left dead when its adapter is replaced."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.keywords = KeywordIndex()
        self.sketches = Sketches()
        self.vectors: VectorIndex | None = None
        self._slot_of: dict[str, int] = {}
        self._stored: dict[str, tuple[int, str]] = {}  # id -> generation of its row, blob digest
        self._titles: list[str] = []
        self._created = array("d")
        self._sizes = array("q")
        self._damaged: set[str] = set()
        self._alive = array("B")  # whole, not deleted, not replaced
        self._open = array("B")  # shown to everyone
        self._fresh = array("B")  # not looked at by a moderator yet
        self._owners: list[str] = []
        self._cards: list[int] = []  # hash of what the slot's words and properties are from
        self._facets = {name: Facet() for name in FACETS}
        self._rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def crowded(self) -> bool:
        """Whether most slots are dead, so that a new shelf would hold the same in half the room."""
        return len(self) - len(self._slot_of) > max(_LEFT, len(self._slot_of))

    def apply(self, row: Stored) -> None:
        """Takes in a row; only adapters that are whole and not deleted are ever shown."""
        entry = row.entry
        slot = self._slot_of.get(entry.id)
        if slot is None or self._created[slot] != row.created or self._cards[slot] != _card(entry):
            if slot is not None:
                self._alive[slot] = 0
            slot = self._append(row)
        self._stored[entry.id] = (row.changed, row.blob)
        self._alive[slot] = int(not entry.damaged and not entry.deleted)
        if entry.damaged and not entry.deleted:
            self._damaged.add(entry.id)
        else:
            self._damaged.discard(entry.id)
        held = entry.review_state == "quarantined"
        self._open[slot] = int(entry.visibility == "public" and not held)
        self._fresh[slot] = int(entry.review_state == "unreviewed" and entry.kind != "demo")

    def _append(self, row: Stored) -> int:
        entry, slot = row.entry, len(self.ids)
        self.ids.append(entry.id)
        self._slot_of[entry.id] = slot
        self._titles.append(entry.title.casefold())
        self._created.append(row.created)
        self._sizes.append(entry.bytes)
        for mask in (self._alive, self._open, self._fresh):
            mask.append(0)
        self._owners.append(entry.owner)
        self._cards.append(_card(entry))
        self.keywords.add(slot, entry)
        self.sketches.append(entry.measures)
        values = (
            (entry.base_model,),
            (entry.modality,),
            entry.tags,
            (entry.contributor,),
            (entry.licence,),
            entry.ranks,
            (entry.kind,),
        )
        for name, value in zip(FACETS, values, strict=True):
            self._facets[name].add(slot, value)
        self._rows = None
        return slot

    def damaged(self) -> list[str]:
        """Ids of the adapters whose file is missing or altered, deleted ones left out."""
        return sorted(self._damaged)

    def resolve(self, name: str) -> str:
        """The id that `name` is, or is the only beginning of (8 characters or more)."""
        if name in self._slot_of:
            return name
        found = (
            [i for i in self._slot_of if i.startswith(name)] if len(name) >= _LEAST_PREFIX else []
        )
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(f"{len(found)} adapters begin with '{name[:64]}'. Give more of the id.")
        raise NotFound(f"There is no adapter '{name[:64]}' in this gallery. Search for it by name.")

    def stored(self, adapter_id: str) -> tuple[int, str] | None:
        """Generation of the adapter's row, and the digest of its file."""
        return self._stored.get(adapter_id)

    def shown(self, viewer: Viewer = EVERYONE) -> np.ndarray:
        """(n,) bool mask of the slots that `viewer` may find."""
        alive = np.array(self._alive, bool)
        if viewer.everything:
            return alive
        shown = alive & np.array(self._open, bool)
        if viewer.reviewed:
            shown &= ~np.array(self._fresh, bool)
        if viewer.owner:
            mine = [slot for slot, owner in enumerate(self._owners) if owner == viewer.owner]
            shown[mine] = alive[mine]
        return shown

    def among(self, ids: Iterable[str]) -> np.ndarray:
        """(n,) bool mask of the slots of these ids; unknown ids are left out."""
        mask = np.zeros(len(self), bool)
        mask[[self._slot_of[i] for i in ids if i in self._slot_of]] = True
        return mask

    def masks(self, filters: Filters) -> dict[str, np.ndarray]:
        """(n,) bool mask of each filter that is set; several tags must all be there."""
        return {
            name: self._facets[name].having(values, len(self), every=name == "tags")
            for name, values in filters.items()
            if values
        }

    def facets(
        self, matched: np.ndarray, masks: Mapping[str, np.ndarray], filters: Filters
    ) -> dict[str, list[dict[str, Any]]]:
        """Counts of every facet over the slots in `matched` (n,), see SearchResult.facets."""
        counted: dict[str, list[dict[str, Any]]] = {}
        for name, facet in self._facets.items():
            inside = matched
            for other, mask in masks.items():
                if other != name or name == "tags":
                    inside = inside & mask
            counted[name] = facet.counts(inside, filters.get(name, ()), _SHOWN)
        return counted

    def order(self, slots: np.ndarray, sort: str) -> np.ndarray:
        """`slots` sorted: "newest" first, "size" largest first, "title" from a to z."""
        if sort == "title":
            return np.array(sorted(slots.tolist(), key=lambda slot: self._titles[slot]), np.int64)
        keys = np.array(self._sizes if sort == "size" else self._created)
        return slots[np.argsort(-keys[slots], kind="stable")]

    def place(self, vectors: VectorIndex | None) -> None:
        """Takes the vectors of this index from now on."""
        self.vectors = vectors
        self._rows = None

    def put(self, adapter_id: str, vector: np.ndarray) -> None:
        """Places one adapter at `vector` (dim,)."""
        if self.vectors is None:
            self.vectors = VectorIndex(len(vector))
        self.vectors.put(adapter_id, vector)

    def rows(self) -> np.ndarray:
        """(m,) slot of each row of the vector index, -1 for none."""
        if self.vectors is None:
            return np.zeros(0, np.int64)
        if self._rows is None or len(self._rows) != len(self.vectors):
            self._rows = np.array([self._slot_of.get(i, -1) for i in self.vectors.ids], np.int64)
        return self._rows

    def placed(self) -> np.ndarray:
        """(n,) bool mask of the slots that have a vector."""
        mask = np.zeros(len(self), bool)
        rows = self.rows()
        mask[rows[rows >= 0]] = True
        return mask

    def nearest(self, vector: np.ndarray, k: int, mask: np.ndarray) -> list[tuple[int, float]]:
        """The k slots of `mask` (n,) nearest to `vector` (dim,), with their cosine."""
        if self.vectors is None:
            return []
        rows = self.rows()
        allowed = (rows >= 0) & mask[rows] if len(self) else np.zeros(0, bool)
        return [(int(rows[row]), cosine) for row, cosine in self.vectors.search(vector, k, allowed)]


def _card(entry: Entry) -> int:
    return hash((entry.card(), entry.measures.get("sketch")))
