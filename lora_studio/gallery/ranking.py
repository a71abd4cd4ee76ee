"""In which order adapters are found, and with what similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lora_studio.errors import InvalidRequest
from lora_studio.gallery.entry import EVERYONE, Mode, Viewer
from lora_studio.gallery.keywords import Matches
from lora_studio.gallery.shelf import Filters, Shelf

Sort = Literal["relevance", "newest", "size", "title"]

MAX_PAGE = 10_000


@dataclass(frozen=True)
class Query:
    """A search, checked.

    Args:
        vector: (dim,) embedding of the text, or None for a keyword search.
        viewer: whose search it is.
    """

    text: str
    vector: np.ndarray | None
    filters: Filters
    sort: Sort
    offset: int
    limit: int
    viewer: Viewer = EVERYONE

    def __post_init__(self) -> None:
        if self.sort not in get_args(Sort):
            raise InvalidRequest(f"sort is '{self.sort}'; it must be one of {get_args(Sort)}.")
        if self.offset < 0 or self.limit < 0:
            raise InvalidRequest("offset and limit must not be negative.")
        if self.vector is not None and not np.isfinite(self.vector).all():
            raise InvalidRequest("The query vector is not finite; embed the text again.")

    @property
    def end(self) -> int:
        return self.offset + min(self.limit, MAX_PAGE)


@dataclass(frozen=True)
class Ranking:
    """One page of slots in order, with their cosine where they have one.

    Args:
        matched: (n,) bool mask of all that matched the text, whatever the filters.
    """

    mode: Mode
    page: Sequence[tuple[int, float | None]]
    total: int
    matched: np.ndarray
    keywords: Matches | None


def rank(shelf: Shelf, query: Query, allowed: np.ndarray) -> Ranking:
    """Ranks the slots of `allowed` (n,), the adapters that may be found and pass the filters."""
    keywords = shelf.keywords.search(query.text, len(shelf)) if query.text.strip() else None
    placed = shelf.placed()
    everything = np.ones(len(shelf), bool)
    if query.vector is not None and placed.any():
        matched = placed | (keywords.scores > 0) if keywords else placed
        pool = allowed & matched
        ordered = _by_cosine(shelf, query, pool, placed, keywords)
        return _page(shelf, query, "semantic", ordered, pool, matched, keywords)
    if keywords:
        matched = keywords.scores > 0
        pool = allowed & matched
        slots = np.flatnonzero(pool)
        ordered = slots[np.argsort(-keywords.scores[slots], kind="stable")]
        return _page(shelf, query, "keyword", ordered.tolist(), pool, matched, keywords)
    newest = shelf.order(np.flatnonzero(allowed), "newest").tolist()
    return _page(shelf, query, "all", newest, allowed, everything, None)


def _by_cosine(
    shelf: Shelf,
    query: Query,
    pool: np.ndarray,
    placed: np.ndarray,
    keywords: Matches | None,
) -> list[int]:
    """Adapters named by the query first, then by cosine, then those found by their words only."""
    assert query.vector is not None
    named = pool & keywords.named if keywords else np.zeros_like(pool)
    front = [slot for slot, _ in shelf.nearest(query.vector, len(shelf), named)]
    bare = named & ~placed
    scores = keywords.scores if keywords else np.zeros(len(shelf))
    front += sorted(np.flatnonzero(bare).tolist(), key=lambda slot: -scores[slot])
    wanted = query.end if query.sort == "relevance" else 0
    near = shelf.nearest(query.vector, wanted, pool & placed & ~named)
    rest = np.flatnonzero(pool & ~placed & ~named)
    tail = rest[np.argsort(-scores[rest], kind="stable")].tolist()
    return front + [slot for slot, _ in near] + tail


def _page(
    shelf: Shelf,
    query: Query,
    mode: Mode,
    ordered: list[int],
    pool: np.ndarray,
    matched: np.ndarray,
    keywords: Matches | None,
) -> Ranking:
    if query.sort != "relevance":
        ordered = shelf.order(np.flatnonzero(pool), query.sort).tolist()
    slots = ordered[query.offset : query.end]
    cosines: dict[int, float] = {}
    if query.vector is not None and mode == "semantic":
        chosen = np.zeros(len(shelf), bool)
        chosen[slots] = True
        cosines = dict(shelf.nearest(query.vector, len(slots), chosen))
    page = [(slot, cosines.get(slot)) for slot in slots]
    return Ranking(mode, page, int(np.count_nonzero(pool)), matched, keywords)
