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
from lora_studio.studio.explaining import Explaining
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.peft_folder import slug
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Job

MAX_TREE = 200
"""Most adapters that are told of in either direction of a tree."""
MAX_NAMED = 10_000


class Reopening(Explaining):
    """The part of a studio that takes recipes back."""

    def open_recipe(self, path: str, *, actor: Actor | None = None) -> Flow:
        """The recipe in a file: YAML of ours or of mergekit, or what was made here by one (zip,
        .safetensors, PNG).

        Result {recipe, recipe_id, adapter_id, notes, missing [{id, title, here}]}: sources by whole
        id where they are in the gallery, `here` the {id, title} of another version of one that is
        not; `recipe_id` and `adapter_id` where the very recipe is stored, else None.
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
        base = recipe.base.get("repo", "")
        for source in recipe.sources:
            entry, namesake = self._entry_of(source, base, who)
            if entry is None:
                row = {"id": source.id, "title": _title(source), "here": None}
                if namesake is not None:
                    row["here"] = {"id": namesake.id, "title": namesake.title}
                    told.append(_other_version(source, namesake))
                missing.append(row)
            elif not entry.id.startswith(source.id):
                told.append(f"'{_title(source)}' was found by its name: {entry.title}.")
            sources.append(source if entry is None else replace(source, id=entry.id))
        if absent := [row for row in missing if row["here"] is None]:
            names = ", ".join(f"'{row['title']}' ({row['id'][:12]})" for row in absent)
            told.append(
                f"{len(absent)} of {len(sources)} adapters are not in this gallery: {names}. Add "
                "them, and they are found by their id."
            )
        found = replace(recipe, sources=tuple(sources))
        if made := self._only_shown(found, who):
            told.append(f"This is '{made['title']}', which was composed here.")
            return {**made["found"], "notes": told, "missing": []}
        stored = self._stored(found.id, who)
        return {
            "recipe": found.to_dict(),
            "recipe_id": stored.get("id"),
            "adapter_id": stored.get("adapter_id"),
            "notes": told,
            "missing": missing,
        }

    def _only_shown(self, recipe: Recipe, who: Actor) -> dict[str, Any] | None:
        """What made the one composed adapter that a picture was made with; its recipe is the one
        meant, not the adapter alone."""
        plain = Source(recipe.sources[0].id, about=recipe.sources[0].about)
        if recipe.about or recipe.method != "cat" or recipe.sources != (plain,):
            return None
        try:
            entry = self._access.entry(plain.id, who)
        except NotFound:
            return None
        stored = self._stored(entry.recipe, who) if entry.recipe else {}
        if not stored:
            return None
        names = {"recipe": "recipe", "recipe_id": "id", "adapter_id": "adapter_id"}
        return {"title": entry.title, "found": {k: stored[v] for k, v in names.items()}}

    def _stored(self, recipe_id: str, who: Actor) -> dict[str, Any]:
        try:
            return self._access.stored_recipe(recipe_id, who)
        except NotFound:
            return {}

    def _entry_of(self, source: Source, base: str, who: Actor) -> tuple[Entry | None, Entry | None]:
        """The adapter of a source by its id, or of one that was named by a file by its title; and
        where it is not here, the one that goes by its title."""
        try:
            return self._access.entry(source.id, who), None
        except NotFound:
            pass
        name = source.about.get("title")
        if not isinstance(name, str) or not slug(name, ""):
            return None, None
        viewer, kinds = self._access.viewer(who), ("uploaded", "demo")
        hits = self.gallery.search(base=base, kinds=kinds, limit=MAX_NAMED, viewer=viewer).hits
        same = [h.entry for h in hits if slug(h.entry.title, "") == slug(name, "")]
        one = same[0] if len(same) == 1 else None
        return (one, None) if "file" in source.about else (None, one)

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


def _other_version(source: Source, entry: Entry) -> str:
    return (
        f"'{_title(source)}' has changed: the recipe was made with {source.id[:12]}, and the one "
        f"here is {entry.id[:12]}."
    )


def _title(source: Source) -> str:
    title = source.about.get("title")
    return title[:120] if isinstance(title, str) and title else source.id[:12]
