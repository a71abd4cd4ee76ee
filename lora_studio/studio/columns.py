"""From what a page asks for ("this adapter", "that recipe") to columns that can be run."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lora_studio.compare import BASE_COLUMN, MAX_COLUMNS, Column
from lora_studio.composition import METHODS, Recipe, Routed, run_recipe
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.gallery import Gallery
from lora_studio.studio.composing import Composer
from lora_studio.studio.flow import Flow, Steps

ALIKE = 0.95
"""Cosine of two adapters' vectors above which they count as doing the same."""


class Columns:
    """Resolves column requests against the gallery.

    Requests: {"kind": "base"}, {"kind": "adapter", "id"}, {"kind": "random"},
    {"kind": "recipe", "recipe": {...}}.
    """

    def __init__(self, gallery: Gallery, composer: Composer) -> None:
        self._gallery = gallery
        self._composer = composer

    def resolve(
        self, flow: Flow, requests: Sequence[Mapping[str, Any]], base: str, seed: int, actor: str
    ) -> Steps:
        """Yields the events of compositions that must run first; returns {"columns": [...]}.

        The base model always comes first.
        """
        wanted = [r for r in requests if r.get("kind") != "base"][: MAX_COLUMNS - 1]
        columns = [BASE_COLUMN]
        used = self._with_parents(_named(wanted))
        for request in wanted:
            kind = request.get("kind")
            if kind == "adapter":
                columns.append(self._adapter(str(request["id"])))
            elif kind == "random":
                columns.append(self._random(base, used, seed))
            elif kind == "recipe":
                found = yield from self._recipe(flow, Recipe.from_dict(request["recipe"]), actor)
                columns.append(found["column"])
            else:
                raise InvalidRequest(f"There is no column of kind {kind!r}.")
        return {"columns": columns}

    def _adapter(self, adapter_id: str) -> Column:
        entry = self._gallery.get(adapter_id)
        path = str(self._gallery.blob_path(entry.id))
        return Column(
            entry.title, f"rank {entry.max_rank}", ((entry.id, 1.0),), None, {entry.id: path}
        )

    def _random(self, base: str, used: set[str], seed: int) -> Column:
        """A control: any uploaded adapter but those compared, and but their likes."""
        hits = self._gallery.search(base=base, sort="title", limit=10_000).hits
        free = [h.entry for h in hits if h.entry.kind != "composed" and h.entry.id not in used]
        other = [entry for entry in free if not self._like_any(entry.id, used)] or free
        if not other:
            raise NotFound("The gallery holds no other adapter to draw a random one from.")
        entry = random.Random(seed).choice(other)
        path = str(self._gallery.blob_path(entry.id))
        return Column(
            f"Random: {entry.title}", "control", ((entry.id, 1.0),), None, {entry.id: path}
        )

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

    def _recipe(self, flow: Flow, recipe: Recipe, actor: str) -> Steps:
        method = METHODS.get(recipe.method)
        recipe = self._composer.full_ids(recipe)
        if method.kind == "routing":
            plan = run_recipe(recipe, self._gallery.adapter)
            assert isinstance(plan, Routed)
            blobs = {s.id: str(self._gallery.blob_path(s.id)) for s in recipe.active}
            detail = f"{plan.top_k} of {len(plan.weights)} per prompt"
            return {"column": Column(method.title, detail, (), plan, blobs)}
        result = yield from self._composer.compose(flow, recipe, "", actor)
        entry = self._gallery.get(result["adapter_id"])
        path = str(self._gallery.blob_path(entry.id))
        column = Column(
            method.title, f"rank {entry.max_rank}", ((entry.id, 1.0),), None, {entry.id: path}
        )
        return {"column": column}


def _named(requests: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of adapters that the requests name themselves."""
    found = {str(r["id"]) for r in requests if r.get("kind") == "adapter"}
    for request in requests:
        if request.get("kind") == "recipe":
            found |= {str(s.get("id")) for s in request["recipe"].get("sources", [])}
    return found
