"""From what a page asks for ("this adapter", "that recipe") to columns that can be run."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.compare import BASE_COLUMN, MAX_COLUMNS, Column
from lora_studio.composition import METHODS, Recipe, Routed
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.gallery import Gallery
from lora_studio.studio.access import Access
from lora_studio.studio.composing import Composer
from lora_studio.studio.flow import Event, Flow, Steps
from lora_studio.studio.mixed import routed_plan
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Job

ALIKE = 0.95
"""Cosine of two adapters' vectors above which they count as doing the same."""


class Columns:
    """Resolves column requests against the gallery.

    Requests: {"kind": "base"}, {"kind": "adapter", "id", "weight": 1.0}, {"kind": "random"},
    {"kind": "noise", "id"}, {"kind": "recipe", "recipe": {...}}, the last with an optional "title".

    Args:
        scratch: folder for adapters that are made for one comparison.
    """

    def __init__(self, gallery: Gallery, composer: Composer, access: Access, scratch: Path) -> None:
        self._gallery = gallery
        self._scratch = scratch
        self._access = access
        self._composer = composer

    def resolve(
        self, flow: Flow, requests: Sequence[Mapping[str, Any]], base: str, seed: int, actor: Actor
    ) -> Steps:
        """Yields the events of compositions that must run first; returns {"columns": [...]}.

        The base model always comes first.
        """
        wanted = [r for r in requests if r.get("kind") != "base"][: MAX_COLUMNS - 1]
        columns = [BASE_COLUMN]
        used = self._with_parents(named(wanted))
        for request in wanted:
            kind = request.get("kind")
            if kind == "adapter":
                columns.append(self._adapter(str(request["id"]), _weight(request)))
            elif kind == "random":
                columns.append(self._random(base, used, seed, actor))
            elif kind == "noise":
                columns.append((yield from self._noise(flow, str(request["id"]), seed)))
            elif kind == "recipe":
                recipe = self._composer.full_ids(Recipe.from_dict(request["recipe"]))
                if recipe.modality == "image":
                    columns.append(self.rendered(recipe, str(request.get("title") or "")))
                    continue
                found = yield from self._recipe(flow, recipe, actor)
                columns.append(found["column"])
            else:
                raise InvalidRequest(f"There is no column of kind {kind!r}.")
        return {"columns": columns}

    def _adapter(self, adapter_id: str, weight: float) -> Column:
        entry = self._gallery.get(adapter_id)
        path = str(self._gallery.blob_path(entry.id))
        detail = f"rank {entry.max_rank}" if weight == 1 else f"weight {weight:g}"
        return Column(entry.title, detail, ((entry.id, weight),), blobs={entry.id: path})

    def _random(self, base: str, used: set[str], seed: int, actor: Actor) -> Column:
        """A control: any uploaded adapter but those compared, and but their likes."""
        viewer = self._access.viewer(actor, chosen_for_them=True)
        hits = self._gallery.search(base=base, sort="title", limit=10_000, viewer=viewer).hits
        free = [h.entry for h in hits if h.entry.kind != "composed" and h.entry.id not in used]
        other = [entry for entry in free if not self._like_any(entry.id, used)] or free
        if not other:
            raise NotFound("The gallery holds no other adapter to draw a random one from.")
        entry = random.Random(seed).choice(other)
        path = str(self._gallery.blob_path(entry.id))
        terms = ((entry.id, 1.0),)
        return Column(f"Random: {entry.title}", "control", terms, blobs={entry.id: path})

    def _noise(self, flow: Flow, adapter_id: str, seed: int) -> Generator[Event, None, Column]:
        """A control: random numbers of an adapter's modules, ranks and norms."""
        entry = self._gallery.get(adapter_id)
        name = f"noise-{self._gallery.digest(entry.id)}-{seed}"
        out = self._scratch / "noise" / f"{name}.safetensors"
        out.parent.mkdir(parents=True, exist_ok=True)
        like = str(self._gallery.blob_path(entry.id))
        args = {"like": like, "seed": seed, "out": str(out)}
        yield from flow.run(Job("random_adapter", args, "figures"))
        detail, terms = f"control, like {entry.title}", ((name, 1.0),)
        return Column(f"Random numbers (seed {seed})", detail, terms, blobs={name: str(out)})

    def _with_parents(self, named: set[str]) -> set[str]:
        entries = [self._gallery.get(name) for name in named]
        parents = {parent for entry in entries for parent in entry.parents}
        return {entry.id for entry in entries} | parents

    def _like_any(self, adapter_id: str, others: set[str]) -> bool:
        """Whether an adapter's samples ask for the very task of one of the others."""
        mine = self._gallery.vector(adapter_id)
        if mine is None:
            return False
        theirs = [self._vector(name) for name in others]
        return any(v is not None and float(v @ mine) > ALIKE for v in theirs)

    def _vector(self, adapter_id: str) -> np.ndarray | None:
        try:
            return self._gallery.vector(adapter_id)
        except NotFound:  # a parent that has left the gallery
            return None

    def rendered(self, recipe: Recipe, title: str = "") -> Column:
        """A recipe for images, by whole ids, as a column; the image engine carries it out and keeps
        nothing."""
        method, names = METHODS.get(recipe.method), len(recipe.active)
        detail = f"{names} adapter" if names == 1 else f"{names} adapters"
        if not names:
            return Column(title or BASE_COLUMN.title, "all weights are 0")
        return Column(
            title or method.title,
            detail,
            recipe=recipe.to_dict(),
            blobs=self._composer.blobs(recipe),
            samples=self._composer.samples(recipe),
        )

    def _recipe(self, flow: Flow, recipe: Recipe, actor: Actor) -> Steps:
        method = METHODS.get(recipe.method)
        result: dict[str, Any] = {}
        if method.kind != "routing" or method.tunes(recipe.params):
            result = yield from self._composer.compose(flow, recipe, "", actor)
        if method.kind == "routing":
            plan = routed_plan(recipe, self._gallery.adapter, lambda: result)
            assert isinstance(plan, Routed)
            blobs = {i: str(self._gallery.blob_path(i)) for i in plan.answerers}
            most = f"up to {plan.top_k}" if plan.choice.looks else plan.top_k
            detail = f"{most} of {len(blobs)} per prompt"
            return {"column": Column(method.title, detail, routed=plan, blobs=blobs)}
        entry = self._gallery.get(result["adapter_id"])
        path = str(self._gallery.blob_path(entry.id))
        detail, terms = f"rank {entry.max_rank}", ((entry.id, 1.0),)
        return {"column": Column(method.title, detail, terms, blobs={entry.id: path})}


def _weight(request: Mapping[str, Any]) -> float:
    weight = request.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not -10 <= weight <= 10:
        raise InvalidRequest(f"The weight of a column is {weight!r}; give a number, -10 to 10.")
    return float(weight)


def named(requests: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of adapters that the requests name themselves."""
    found = {str(r["id"]) for r in requests if r.get("kind") in ("adapter", "noise")}
    for request in requests:
        if request.get("kind") == "recipe":
            found |= {str(s.get("id")) for s in request["recipe"].get("sources", [])}
    return found
