"""The rows of the table: each method's figures for these adapters, and those of the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lora_studio.composition.method import METHODS, Method
from lora_studio.composition.verdict.controls import SEED, best_single, expected
from lora_studio.composition.verdict.nature import nature
from lora_studio.composition.verdict.trial import Bench, How, Made
from lora_studio.errors import LoraStudioError

Known = Literal["exact", "sampled", "estimate", "expected", "run", "whole", "refused"]
"""How a row is known: as `How`; the mean of random draws; only running it tells; the sources stay
whole; it refuses them."""


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        cosines: of the result to each source; for a random adapter, what they stray by around 0.
        kept: share of each source's squared norm within the result's input and output spaces.
        norm: of the result over the sources' mean; None where it is not known.
        rank: (least, most) over modules; parameters: numbers stored.
        score: the lowest cosine, each with the sign of the source's weight; None without one.
        note: what else a person should know, as a sentence.
    """

    name: str
    title: str
    kind: Literal["merging", "routing", "denoising", "control"]
    how: Known
    params: Mapping[str, Any] = field(default_factory=dict)
    cosines: tuple[float, ...] | None = None
    kept: tuple[float, ...] | None = None
    norm: float | None = None
    rank: tuple[int, int] | None = None
    parameters: int | None = None
    seconds: float | None = None
    score: float | None = None
    note: str = ""

    @property
    def most(self) -> int:
        """Largest rank, 0 if it has none."""
        return self.rank[1] if self.rank else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, rounded."""
        told = dict(vars(self))
        told["params"] = dict(self.params)
        for name in ("cosines", "kept"):
            values = told[name]
            told[name] = None if values is None else [round(v, 4) for v in values]
        for name in ("norm", "score"):
            told[name] = None if told[name] is None else round(told[name], 4)
        told["rank"] = None if self.rank is None else {"min": self.rank[0], "max": self.rank[1]}
        told["bytes"] = None if self.parameters is None else 4 * self.parameters
        return told


def row_of(bench: Bench, method: Method, params: Mapping[str, Any]) -> Row:
    """What a method would make of the adapters; a strength that is chosen on samples is left out,
    since no cosine depends on it."""
    given = {k: False if k == "auto_scale" else v for k, v in method.checked(params).items()}
    plain = Row(method.name, method.title, method.kind, "run", params)
    try:
        method.refuse(_modality(bench), bench.family)
    except LoraStudioError as error:
        return _changed(plain, how="refused", note=str(error))
    if method.kind != "merging":
        stored = sum(
            s.rank * (s.d_in + s.d_out) for p in bench.joint.profiles for s in p.shapes.values()
        )
        return _changed(plain, how="whole", parameters=stored, note=_WHOLE[method.kind])
    if method.tunes(given):
        return _changed(plain, note="It tries things on the base model: run it to know.")
    if nature(method.name, given).drawn:
        return _changed(plain, note="It draws entries at random: run it to know.")
    try:
        made = bench.make(method.name, given)
    except LoraStudioError as error:
        return _changed(plain, how="refused", note=str(error))
    traits = nature(method.name, given)
    row = _changed(plain, **figures(bench, made))
    return _changed(row, norm=None) if traits.alike and traits.sized else row


_WHOLE = {
    "routing": "Each prompt is sent to its adapters: nothing is merged and nothing lost, but all "
    "sources stay loaded.",
    "denoising": "It acts while a picture is made: nothing is merged, but all sources stay loaded.",
}


def figures(bench: Bench, made: Made) -> dict[str, Any]:
    """The figures of a row."""
    norms = bench.joint.norms
    length = float(np.sqrt(max(made.square, 0.0)))
    safe = np.where(norms > 0, norms, 1.0)
    cosines = np.clip(made.inner / (length * safe), -1, 1) if length else np.zeros(len(norms))
    kept = np.clip(made.kept / safe**2, 0, 1)
    ranks = made.ranks.values()
    sizes = ((bench.joint.shape(n), rank) for n, rank in made.ranks.items())
    mean = float(norms.mean())
    how: How = made.how
    return {
        "how": how,
        "cosines": tuple(cosines.tolist()),
        "kept": tuple(kept.tolist()),
        "norm": length / mean if mean else None,
        "rank": (min(ranks), max(ranks)),
        "parameters": sum(rank * (s.d_in + s.d_out) for s, rank in sizes),
        "score": float((cosines * np.sign(bench.weights)).min()),
    }


def controls(bench: Bench, titles: Sequence[str], places: Sequence[int]) -> list[Row]:
    """The best single source, named "single:" and its given place, and a random adapter of its
    ranks and norms."""
    joint = bench.joint
    best = best_single(joint, np.sign(bench.weights))
    single = figures(bench, bench.single(best))
    spread, within = expected(joint, best)
    return [
        Row(
            f"single:{places[best]}",
            f"Best single: {titles[best]}",
            "control",
            note="The one source that is most like all of them, left as it is.",
            **single,
        ),
        Row(
            "random",
            f"Random adapter (seed {SEED})",
            "control",
            "expected",
            cosines=tuple(spread.tolist()),
            kept=tuple(within.tolist()),
            norm=single["norm"],
            rank=single["rank"],
            parameters=single["parameters"],
            note=(
                "Random numbers of the best single source's ranks and norms. Its cosines are 0 but "
                "for what is shown, one standard deviation."
            ),
        ),
    ]


def params_of(method: Method, rank: int) -> dict[str, Any]:
    """A method's usual parameters, at this rank if it can be told one."""
    return {"rank": rank} if any(p.name == "rank" for p in method.params) else {}


def listed(modality: str, family: str) -> list[Method]:
    """Methods of the table in the order of the menu: all merges, and for text the first rule of
    routing, which stands for what loses nothing."""
    found = [m for m in METHODS if m.kind == "merging" and m.modality in ("both", modality)]
    routes = [m for m in METHODS if m.kind == "routing" and m.modality in ("both", modality)]
    return [*found, *routes[:1]]


def _modality(bench: Bench) -> str:
    components = {s.component for p in bench.joint.profiles for s in p.shapes.values()}
    return "text" if components <= {"model"} else "image"


def _changed(row: Row, **values: Any) -> Row:
    return Row(**{**vars(row), **values})
