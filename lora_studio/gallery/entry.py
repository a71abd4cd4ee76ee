"""What the gallery tells about an adapter: its card, its measures, and why a search found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lora_studio.adapter import AdapterCard, Modality

EntryKind = Literal["uploaded", "composed", "demo"]
ReasonKind = Literal["sample", "keyword", "card", ""]
Mode = Literal["all", "keyword", "semantic"]


@dataclass(frozen=True)
class Entry:
    """One adapter of the gallery. All card fields are untrusted text.

    Args:
        ranks: distinct ranks, ascending. modules: how many modules have factors.
        module_kinds: last names of the modules ("q_proj"), in order of appearance.
        parameters, bytes: stored values; size of the stored file.
        norm: Frobenius norm of all updates together.
        layer_norms: Frobenius norm per layer index, 0 where a layer has no factors; of an image
            adapter, per block of the pipeline it acts on, in their order.
        warnings: what a person should know before use, as sentences.
        modality: whether it adapts a model of text or of images.
        components: parts of the model it touches, such as ("text_encoder", "unet").
        thumbnail: digest of its picture, "" if it has none.
        described_by: what places it in the search: its samples, its card, a
            centroid its contributor computed, or nothing yet.
        created: ISO 8601 in UTC.
        damaged: whether its file was found missing or altered; then no search finds it.
        measures: the figures of its report card, see `rank_units.measures.measure`, with `dialect`,
            `family` and `evidence` where it was uploaded; {} if it is older than they are.
    """

    id: str
    title: str
    description: str = ""
    tags: tuple[str, ...] = ()
    base_model: str = ""
    contributor: str = ""
    licence: str = ""
    trained: str = ""
    samples: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    recipe: str = ""
    centroid: str = ""
    trigger_words: tuple[str, ...] = ()
    source_format: str = ""
    ranks: tuple[int, ...] = ()
    max_rank: int = 0
    modules: int = 0
    module_kinds: tuple[str, ...] = ()
    parameters: int = 0
    bytes: int = 0
    norm: float = 0.0
    layer_norms: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    modality: Modality = "text"
    components: tuple[str, ...] = ("model",)
    thumbnail: str = ""
    described_by: Literal["samples", "card", "centroid", ""] = ""
    kind: EntryKind = "uploaded"
    owner: str = ""
    visibility: str = "public"
    review_state: str = "unreviewed"
    created: str = ""
    deleted: bool = False
    damaged: bool = False
    measures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; tuples become lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """Reads known fields and ignores the rest."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in data.items()
            if name in cls.__dataclass_fields__
        }
        return cls(**values)

    def card(self) -> AdapterCard:
        """The adapter's card as it was stored."""
        return AdapterCard(**{f.name: getattr(self, f.name) for f in fields(AdapterCard)})


def state_of(entry: Entry) -> dict[str, Any]:
    """What the audit log says of an adapter that comes or goes."""
    return {
        "owner": entry.owner,
        "visibility": entry.visibility,
        "review_state": entry.review_state,
    }


@dataclass(frozen=True)
class Viewer:
    """Whose search it is: what is not shown to everyone is shown to its owner.

    Args:
        owner: id of the person, "" for one who has not signed in.
        everything: whether all is theirs, as in a studio without sign-in.
        reviewed: whether only what a moderator has looked at may be found, or is their own; what is
            chosen for people without being asked for is chosen so.
    """

    owner: str = ""
    everything: bool = False
    reviewed: bool = False


EVERYONE = Viewer()


@dataclass(frozen=True)
class Hit:
    """An entry and why it was found.

    Args:
        similarity: cosine of the query to the adapter's vector in [-1, 1], or None without one.
        reason: the sample input nearest to the query, or the words that matched.
    """

    entry: Entry
    similarity: float | None = None
    reason: str = ""
    reason_kind: ReasonKind = ""

    def to_dict(self) -> dict[str, Any]:
        """The entry's fields, but for its measures, with similarity, reason and reason_kind."""
        own = {"similarity": self.similarity, "reason": self.reason}
        told = {**self.entry.to_dict(), **own, "reason_kind": self.reason_kind}
        del told["measures"]
        return told


@dataclass(frozen=True)
class SearchResult:
    """One page of hits.

    Args:
        mode: how the query was matched.
        total: hits on all pages.
        facets: facet -> [{"value", "count"}], most frequent first. A count is what choosing that
            value would show: all other filters hold; of its own facet only tags hold, because
            several tags narrow a search while several values of another facet widen it.
    """

    mode: Mode
    hits: list[Hit] = field(default_factory=list)
    facets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    total: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        hits = [hit.to_dict() for hit in self.hits]
        return {"mode": self.mode, "hits": hits, "facets": self.facets, "total": self.total}
