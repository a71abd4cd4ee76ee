"""Adapters that are the same, or nearly: found by their sketches, confirmed by their updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.gallery.entry import Entry
from lora_studio.rank_units.sketch import unpack

NEAR = 0.98
"""Cosine of two updates, or of one and the other's opposite, from which they are called alike."""

REMEMBERED = 50_000
"""Most cosines that are kept at hand; they are computed again when they are wanted again."""


@dataclass(frozen=True)
class Twin:
    """Another adapter that is much the same.

    Args:
        kind: "exact" if all tensors are equal, "near" if only the updates are alike.
        cosine: of the two updates; negative where one undoes the other.
        strength: norm of its update beside that of the adapter asked about.
    """

    id: str
    title: str
    kind: Literal["exact", "near"]
    cosine: float
    strength: float

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def sentence(self) -> str:
        """What a person should know of it."""
        if self.kind == "exact":
            return f"The very same weights are here as “{self.title}”."
        how = "the opposite of" if self.cosine < 0 else "nearly the same as"
        scaled = abs(self.strength - 1) > 0.01
        at = f", which is {self.strength:.2g} times as strong" if scaled else ""
        return f"Its update is {how} that of “{self.title}” (cosine {self.cosine:.3f}){at}."


def twins(
    entry: Entry,
    others: Sequence[Entry],
    load: Callable[[str], Adapter],
    known: dict[tuple[str, str], float],
) -> list[Twin]:
    """Which of the likely `others` are the same as `entry`, exact ones first.

    Args:
        load: reads an adapter by id.
        known: cosines of pairs of ids, which never change; new ones are added.
    """
    found: list[Twin] = []
    adapter: Adapter | None = None
    for other in others:
        strength = other.norm / entry.norm if entry.norm else 1.0
        if entry.measures.get("weights") == other.measures.get("weights"):
            found.append(Twin(other.id, other.title, "exact", 1.0, 1.0))
            continue
        pair = (min(entry.id, other.id), max(entry.id, other.id))
        cosine = known.get(pair)
        if cosine is None:
            adapter = adapter or load(entry.id)
            cosine = _cosine(adapter, load(other.id))
            if len(known) >= REMEMBERED:
                known.clear()
            known[pair] = cosine
        if abs(cosine) >= NEAR:
            found.append(Twin(other.id, other.title, "near", cosine, strength))
    return sorted(found, key=lambda twin: (twin.kind != "exact", -abs(twin.cosine)))


def alike(entry: Entry, others: Sequence[Entry]) -> list[str]:
    """Titles of those of `others` whose sketch says that they nearly are `entry` or its opposite;
    their weights are not looked at."""
    mine = _sketch(entry)
    if mine is None:
        return []
    sketches = [(other.title, _sketch(other)) for other in others if other.id != entry.id]
    return [t for t, its in sketches if its is not None and abs(float(mine @ its)) >= NEAR]


def _sketch(entry: Entry) -> np.ndarray | None:
    return unpack(str(entry.measures.get("sketch") or ""))


def _cosine(one: Adapter, two: Adapter) -> float:
    """Of the updates as long vectors; modules of one name but different shapes share nothing."""
    shared = [
        name
        for name, module in one.factors.items()
        if (other := two.factors.get(name))
        and (other.d_out, other.d_in) == (module.d_out, module.d_in)
    ]
    norms = one.norm() * two.norm()
    inner = sum(one.factors[name].inner(two.factors[name]) for name in shared)
    return inner / norms if norms else 0.0
