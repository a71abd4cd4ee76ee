"""Recipes that come back: read out of a file, their sources found again; and the tree of what was
made of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lora_studio.composition import Recipe, Source
from lora_studio.errors import NotFound
from lora_studio.gallery import Entry
from lora_studio.studio.adding import READ_SECONDS
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.moderating import Moderating
from lora_studio.studio.peft_folder import slug
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Job

MAX_TREE = 200
"""Most adapters that are told of in either direction of a tree."""
MAX_NAMED = 10_000


class Reopening(Moderating):
    """The part of a studio that takes recipes back."""

    def open_recipe(self, path: str, *, actor: Actor | None = None) -> Flow:
        """The recipe in a file: YAML of ours or of mergekit, or what was made here by one (zip,
        .safetensors, PNG).

        Result {recipe, recipe_id, adapter_id, notes, missing [{id, title}]}: sources by whole id
        where they are in the gallery; `recipe_id` and `adapter_id` where the very recipe is, else
        None.
        """
        who = self._access.actor(actor)
        self._quotas.search(who)

        def steps(flow: Flow) -> Steps:
            args = {"path": path, "limits": self.settings.limits.to_dict()}
            found = yield from flow.run(Job("read_recipe", args, "reader", deadline=READ_SECONDS))
            return self._placed(Recipe.from_dict(found["recipe"]), found["notes"], who)

        return self._flow(who, steps)

    def _placed(self, recipe: Recipe, notes: Sequence[str], who: Actor) -> dict[str, Any]:
        told, sources, missing = list(notes), [], []
        for source in recipe.sources:
            entry = self._entry_of(source, recipe.base.get("repo", ""), who)
            if entry is None:
                missing.append({"id": source.id, "title": _title(source)})
            elif not entry.id.startswith(source.id):
                told.append(f"'{_title(source)}' was found by its name: {entry.title}.")
            sources.append(source if entry is None else replace(source, id=entry.id))
        if missing:
            names = ", ".join(f"'{row['title']}' ({row['id'][:12]})" for row in missing)
            told.append(
                f"{len(missing)} of {len(sources)} adapters are not in this gallery: {names}. Add "
                "them, and they are found by their id."
            )
        found = replace(recipe, sources=tuple(sources))
        stored = self._stored(found.id, who)
        return {
            "recipe": found.to_dict(),
            "recipe_id": stored.get("id"),
            "adapter_id": stored.get("adapter_id"),
            "notes": told,
            "missing": missing,
        }

    def _stored(self, recipe_id: str, who: Actor) -> dict[str, Any]:
        try:
            return self._access.stored_recipe(recipe_id, who)
        except NotFound:
            return {}

    def _entry_of(self, source: Source, base: str, who: Actor) -> Entry | None:
        """The adapter of a source by its id; of one that was named by a file, by its title."""
        try:
            return self._access.entry(source.id, who)
        except NotFound:
            pass
        name = source.about.get("title")
        if "file" not in source.about or not isinstance(name, str) or not slug(name, ""):
            return None
        hits = self.gallery.search(base=base, limit=MAX_NAMED, viewer=self._access.viewer(who)).hits
        same = [h.entry for h in hits if slug(h.entry.title, "") == slug(name, "")]
        return same[0] if len(same) == 1 else None

    def get_lineage(self, id: str, *, actor: Actor | None = None) -> dict[str, Any]:
        """The tree of an adapter: {id, parents, children}.

        Nodes are {id, title, kind, recipe, method, parents or children [nodes], gone}; `recipe` is
        the id of the one that made it. What is not there for whoever asks is {id, gone: True}.
        """
        who = self._access.actor(actor)
        entry = self._access.entry(id, who)
        viewer = self._access.viewer(who)
        composed = self.gallery.search(kinds=("composed",), limit=MAX_NAMED, viewer=viewer).hits
        children: dict[str, list[Entry]] = {}
        for hit in composed:
            for parent in hit.entry.parents:
                children.setdefault(parent, []).append(hit.entry)
        up = _Walk(lambda e: [self._parent(p, who) for p in e.parents], "parents")
        down = _Walk(lambda e: list(children.get(e.id, [])), "children")
        return {
            "id": entry.id,
            "parents": up.below(entry, frozenset()),
            "children": down.below(entry, frozenset()),
        }

    def _parent(self, adapter_id: str, who: Actor) -> Entry | str:
        try:
            return self._access.entry(adapter_id, who)
        except NotFound:
            return adapter_id


class _Walk:
    """Nodes in one direction, each way to an adapter once, until MAX_TREE are told of."""

    def __init__(self, step: Any, name: str) -> None:
        self._step, self._name, self._left = step, name, MAX_TREE

    def below(self, entry: Entry, above: frozenset[str]) -> list[dict[str, Any]]:
        nodes = []
        seen = above | {entry.id}
        for other in self._step(entry):
            if self._left <= 0:
                break
            self._left -= 1
            if isinstance(other, str):
                nodes.append({"id": other, "gone": True})
            elif other.id not in seen:
                nodes.append({**_told(other), self._name: self.below(other, seen)})
        return nodes


def _told(entry: Entry) -> dict[str, Any]:
    method = entry.tags[1] if entry.kind == "composed" and len(entry.tags) > 1 else ""
    return {
        "id": entry.id,
        "title": entry.title,
        "kind": entry.kind,
        "recipe": entry.recipe,
        "method": method,
    }


def _title(source: Source) -> str:
    title = source.about.get("title")
    return title[:120] if isinstance(title, str) and title else source.id[:12]
