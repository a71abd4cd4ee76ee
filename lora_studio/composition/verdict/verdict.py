"""The verdict on a composition before it is run, in steps of which the first takes a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.composition.method import METHODS, Method
from lora_studio.composition.verdict import conflict
from lora_studio.composition.verdict.cost import seconds
from lora_studio.composition.verdict.joint import Joint, join
from lora_studio.composition.verdict.nature import nature
from lora_studio.composition.verdict.order import ordered, proposal, proposed, reason
from lora_studio.composition.verdict.rows import Row, _changed, controls, listed, params_of, row_of
from lora_studio.composition.verdict.trial import Bench
from lora_studio.composition.verdict.weights import even_weights
from lora_studio.errors import InvalidRequest
from lora_studio.rank_units.similarity import SHARED_SEED, SHARED_SEED_WARNING, alike_by_index
from lora_studio.rank_units.statistics import gather

Which = Literal["some", "all"]
SLOW: Mapping[Which, float] = {"some": 0.5, "all": 5.0}
"""Seconds of trying beyond which only running a method tells."""
LARGE = 4e6
"""Work, as `cores.WORK`, from which one module is tried before the others."""
_SPENT: dict[tuple[Any, ...], float] = {}
"""What trying a method took that was tried on large sets before."""
MODULES = 512
"""Most modules whose clash is told one by one: those with most at stake."""


@dataclass(frozen=True)
class Wanted:
    """What a verdict is asked of.

    Args:
        ids, titles, weights: one per adapter, in the order of `by_id`; weights are not zero.
        places: where each stands in what is told.
        method, params: the composition that is thought of.
        which: the methods of the table: "some", the first of each part of the menu, or "all".
    """

    ids: Sequence[str]
    titles: Sequence[str]
    weights: Sequence[float]
    method: str = "svd"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    base: str = ""
    family: str = ""
    which: Which = "some"
    places: Sequence[int] = ()


def by_id(ids: Sequence[str]) -> list[int]:
    """Places in the order in which adapters are judged, so that no figure depends on the order they
    were given in."""
    return sorted(range(len(ids)), key=lambda place: (ids[place], place))


class Verdict:
    """One verdict in the making: `advance`, then `told`, until nothing is left."""

    def __init__(self, joint: Joint, wanted: Wanted) -> None:
        if not joint.members or not all(wanted.weights):
            raise InvalidRequest("Every weight is zero. Give at least one adapter a weight.")
        self.joint, self.wanted = joint, wanted
        self.order = np.argsort(wanted.places or range(joint.size)).tolist()
        self.method = METHODS.get(wanted.method)
        self.bench = Bench(
            joint,
            wanted.weights,
            wanted.ids,
            seed=wanted.seed,
            base=wanted.base,
            family=wanted.family,
        )
        self.largest = max(m.rank for found in joint.members.values() for m in found)
        self.left = self._asked()
        self.rows: list[Row] = []
        self.controls = controls(self.bench, wanted.titles, wanted.places or range(joint.size))
        self.clashes = conflict.clashes(joint, wanted.weights)

    def _asked(self) -> list[tuple[Method, dict[str, Any]]]:
        """Methods and parameters, the chosen one first."""
        components = {s.component for p in self.joint.profiles for s in p.shapes.values()}
        methods = listed("text" if components <= {"model"} else "image", self.wanted.family)
        if self.wanted.which == "some":
            methods = _first_of_each(methods)
        chosen = dict(self.wanted.params)
        rank = int(chosen.get("rank") or self.largest)
        others = [(m, params_of(m, rank)) for m in methods if m.name != self.method.name]
        others.reverse()
        others.sort(key=lambda item: _place(*item))
        return [(self.method, chosen), *others]

    def advance(self, within: float = 0.0) -> None:
        """Tries at least one more method, and others while less than `within` seconds are over."""
        end = time.perf_counter() + within
        while self.left:
            method, params = self.left.pop(0)
            if (row := self._too_slow(method, params)) is None:
                start = time.perf_counter()
                row = row_of(self.bench, method, params)
                row = self._timed(row, method, time.perf_counter() - start)
            self.rows.append(row)
            if time.perf_counter() >= end:
                return

    def _too_slow(self, method: Method, params: Mapping[str, Any]) -> Row | None:
        """The row of a method that takes long even on stand-ins, by one module of several."""
        names = self.bench.names
        if len(names) < 2 or self.bench.work < LARGE or method.name == self.method.name:
            return None
        key = (method.name, tuple(sorted(params.items())), round(self.bench.work))
        if key not in _SPENT:
            start = time.process_time()
            row_of(self.bench.only(names[:1]), method, params)
            _SPENT[key] = (time.process_time() - start) * len(names)
        spent = _SPENT[key]
        if spent < SLOW[self.wanted.which]:
            return None
        note = f"Trying it alone takes about {spent:.0f} s with so many units: run it to know."
        return Row(method.name, method.title, method.kind, "run", params, note=note)

    def _timed(self, row: Row, method: Method, spent: float) -> Row:
        if row.score is None or row.rank is None:
            return row
        dense = nature(method.name, method.checked(row.params)).dense
        ranks = dict.fromkeys(self.joint.members, row.most)
        share = len(self.bench.names) / len(self.joint.members)
        return _changed(row, seconds=round(seconds(self.joint, ranks, spent, share, dense), 2))

    def told(self) -> dict[str, Any]:
        """Everything so far, as plain JSON; see docs/verdict.md for what the figures mean."""
        wanted = self.wanted
        signs = np.sign(wanted.weights).tolist()
        found = ordered(self.rows)
        first = found[0] if found and found[0].score is not None else None
        chosen = next((r for r in self.rows if r.name == self.method.name), None)
        several = self.joint.size > 1
        weights = even_weights(self.joint, wanted.weights) if several else None
        rows = [{**self._given(r), "reason": self._why(r, first, signs)} for r in found]
        best = proposed(self.rows, self.largest) if several else None
        return {
            "sources": self._sources(),
            "cosines": np.round(self.joint.cosines, 4)[np.ix_(self.order, self.order)].tolist(),
            "modules": len(self.joint.members),
            "tried": len(self.bench.names),
            "largest": self.largest,
            "conflict": self._conflict() if several else None,
            "methods": rows,
            "controls": [self._given(row) for row in self.controls],
            "chosen": self.method.name,
            "left": len(self.left),
            "which": wanted.which,
            "proposal": proposal(best, chosen, first, self.largest),
            "weights": None if weights is None else [weights[i] for i in self.order],
            "warnings": self._warnings(),
        }

    def _given(self, row: Row) -> dict[str, Any]:
        """A row with its sources as they were given."""
        told = row.to_dict()
        for name in ("cosines", "kept"):
            if told[name] is not None:
                told[name] = [told[name][i] for i in self.order]
        return told

    def _why(self, row: Row, first: Row | None, signs: Sequence[float]) -> str:
        if first is None or self.joint.size == 1:
            return row.note
        return reason(row, first, signs, self.wanted.titles, self.largest)

    def _sources(self) -> list[dict[str, Any]]:
        w = np.asarray(self.wanted.weights, float)
        squares = w**2 * np.diag(self.joint.products)
        shares = squares / (squares.sum() or 1.0)
        return [
            {
                "id": self.wanted.ids[i],
                "title": self.wanted.titles[i],
                "weight": float(w[i]),
                "norm": round(float(self.joint.norms[i]), 4),
                "share": round(float(shares[i]), 4),
            }
            for i in self.order
        ]

    def _conflict(self) -> dict[str, Any]:
        told = conflict.told(self.clashes)
        told["modules"] = sorted(told["modules"], key=lambda row: -row["stake"])[:MODULES]
        return told

    def _warnings(self) -> list[str]:
        found: list[str] = []
        members = self.joint.members
        partial = sum(len(m) < self.joint.size for m in members.values())
        if self.joint.size == 1:
            found.append("With one adapter a merge only changes its rank and strength.")
        elif self._shared_seed() > SHARED_SEED:
            found.append(SHARED_SEED_WARNING)
        if partial:
            found.append(f"{partial} of {len(members)} modules are not in every adapter.")
        return found

    def _shared_seed(self) -> float:
        scores = [
            alike_by_index(core.group.a[core.place], core.group.ranks)
            for core in self.bench.cores.values()
        ]
        return float(np.mean(scores)) if scores else 0.0


def _place(method: Method, params: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """What is known soonest comes first: what cannot be tried, then what treats all alike, and of
    that the top of the menu; the end of the menu is quicker than its middle."""
    given = method.checked(params)
    tried = method.kind == "merging" and not method.tunes(given)
    slow = tried and not nature(method.name, given).alike
    return tried, slow, bool(method.group)


def warm() -> None:
    """Finds the nature of every merge, so that the first verdict need not."""
    for method in METHODS:
        given = method.checked(params_of(method, 1))
        if method.kind == "merging" and not method.tunes(given):
            nature(method.name, given)


def _first_of_each(methods: Sequence[Method]) -> list[Method]:
    """The methods at the top of the menu, and the first of each group below."""
    groups: dict[str, Method] = {}
    for method in methods:
        groups.setdefault(method.group if method.kind == "merging" else method.kind, method)
    return [m for m in methods if (m.kind, m.group) == ("merging", "") or m in groups.values()]


def verdict(
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None = None,
    method: str = "svd",
    *,
    which: Which = "all",
    seed: int = 0,
    family: str = "",
    **params: Any,
) -> dict[str, Any]:
    """What would come of a composition, and of all others at its rank: the notebook's one call.

    Args:
        weights: one per adapter, 1 by default.
        which: "all" methods, or "some" of them.
        params: of `method`.

    Raises:
        IncompatibleAdapters, InvalidRequest, NotFound: as `compose`.
    """
    given = [1.0] * len(adapters) if weights is None else [float(w) for w in weights]
    if not adapters or len(given) != len(adapters):
        raise InvalidRequest(f"{len(adapters)} adapters and {len(given)} weights; need one each.")
    active = [(a, w) for a, w in zip(adapters, given, strict=True) if w]
    places = by_id([a.id for a, _ in active])
    active = [active[place] for place in places]
    profiles, pairs = gather([a for a, _ in active])
    joint = join([profiles[i] for i in range(len(active))], pairs)
    wanted = Wanted(
        ids=[a.id for a, _ in active],
        titles=[
            a.card.title or f"Adapter {i + 1}" for i, (a, _) in zip(places, active, strict=True)
        ],
        weights=[w for _, w in active],
        method=method,
        params=params,
        seed=seed,
        base=adapters[0].card.base_model,
        family=family,
        which=which,
        places=places,
    )
    found = Verdict(joint, wanted)
    while found.left:
        found.advance(60.0)
    return found.told()
