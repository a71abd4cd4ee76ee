"""Carrying out a recipe and keeping what comes of it: the adapter, its recipe and its parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from lora_studio import __version__
from lora_studio.adapter import AdapterCard
from lora_studio.composition import METHODS, Recipe
from lora_studio.errors import IncompatibleAdapters, NotFound
from lora_studio.formats import canonical
from lora_studio.gallery import Entry, Gallery
from lora_studio.gallery.moderated import Visibility
from lora_studio.settings import Settings
from lora_studio.studio.access import Access
from lora_studio.studio.bases import Bases
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.mixed import who_answers
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Job

SAMPLES_KEPT = 32
LONGEST_TITLE = 60


class Composer:
    """Runs recipes through the workers.

    A recipe whose method can use the base model, and asks for it, runs beside the model; all
    others run in the light worker, where no base model is needed.
    """

    def __init__(self, settings: Settings, gallery: Gallery, bases: Bases, access: Access) -> None:
        self._settings = settings
        self._gallery = gallery
        self._bases = bases
        self._access = access

    def full_ids(self, recipe: Recipe) -> Recipe:
        """The recipe with every source by its whole id and as it calls itself, and all parameters
        filled in.

        Raises:
            NotFound: an unknown source or method.
            IncompatibleAdapters: a source of another base model than the recipe's.
        """
        entries = [self._gallery.get(source.id) for source in recipe.sources]
        sources = tuple(
            replace(s, id=entry.id, about={**s.about, **_about(entry)})
            for s, entry in zip(recipe.sources, entries, strict=True)
        )
        base = dict(recipe.base)
        base.setdefault("repo", next((e.base_model for e in entries if e.base_model), ""))
        for entry in entries:
            if entry.base_model and entry.base_model != base["repo"]:
                raise IncompatibleAdapters(
                    f"'{entry.title}' was trained on {entry.base_model}, not on {base['repo']}. "
                    "Choose that base model, or other adapters."
                )
        checked = METHODS.get(recipe.method).checked(recipe.params)
        modality = entries[0].modality
        return replace(recipe, sources=sources, base=base, params=checked, modality=modality)

    def blobs(self, recipe: Recipe) -> dict[str, str]:
        """Source id -> path of its blob."""
        return {s.id: str(self._gallery.blob_path(s.id)) for s in recipe.active}

    def samples(self, recipe: Recipe) -> dict[str, list[str]]:
        """Source id -> its sample prompts."""
        return {s.id: list(self._gallery.get(s.id).samples) for s in recipe.active}

    def dry_run(self, recipe: Recipe) -> Job:
        """The job that says what would come of a recipe."""
        return Job("plan_composition", self._args(recipe), "light")

    def _args(self, recipe: Recipe) -> dict[str, Any]:
        family = self._bases.family(recipe.base["repo"]) if recipe.modality == "image" else ""
        return {"recipe": recipe.to_dict(), "blobs": self.blobs(recipe), "family": family}

    def compose(self, flow: Flow, recipe: Recipe, title: str, actor: Actor) -> Steps:
        """Yields progress; returns {recipe_id, adapter_id, entry, notes, cosines, existed}."""
        recipe = self.full_ids(recipe)
        if known := self._known(recipe.id, actor):
            return known
        out = self._settings.scratch_dir / f"{uuid4().hex}.safetensors"
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            result = yield from flow.run(self._job(recipe, out))
            if result["routed"]:
                return self._keep_routed(recipe, result, out, title, actor)
            return self._keep_merged(recipe, result, out, title, actor)
        finally:
            out.unlink(missing_ok=True)

    def _job(self, recipe: Recipe, out: Path) -> Job:
        args = {**self._args(recipe), "out": str(out)}
        if not METHODS.get(recipe.method).tunes(recipe.params):
            return Job("compose_adapter", args, "light")
        self._bases.permit(recipe.base["repo"])
        args |= {
            "base": recipe.base["repo"],
            "device": self._settings.device,
            "max_rows": self._settings.max_rows,
            "samples": self.samples(recipe),
        }
        return Job("compose_adapter", args, "model")

    def _known(self, recipe_id: str, actor: Actor) -> dict[str, Any] | None:
        try:
            found = self._gallery.get_recipe(recipe_id)
        except NotFound:
            return None
        adapter_id = found["adapter_id"]
        if found["result"].get("untuned"):
            return None  # the base model may be there now
        if adapter_id is None:
            part = found["result"].get("merged")
            if part and not self._still_there(part["id"], actor):
                return None
            return {**found["result"], "recipe_id": recipe_id, "adapter_id": None, "existed": True}
        try:
            entry = self._gallery.get(adapter_id)
        except NotFound:
            return None
        if not self._access.listed(entry, actor):
            return None
        return {
            **_brief(found["result"]),
            "recipe_id": recipe_id,
            "adapter_id": adapter_id,
            "entry": self._access.told(entry.to_dict(), actor),
            "existed": True,
        }

    def _still_there(self, adapter_id: str, actor: Actor) -> bool:
        try:
            return self._access.listed(self._gallery.get(adapter_id), actor)
        except NotFound:
            return False

    def _keep_routed(
        self, recipe: Recipe, result: dict[str, Any], out: Path, title: str, actor: Actor
    ) -> dict[str, Any]:
        """Keeps the plan and, where part of it was merged, that part as an adapter of its own."""
        result = {"notes": [], **result, "method": METHODS.get(recipe.method).title}
        together = list(result.pop("stand_ins", {}))
        result.pop("fingerprint", None)  # of the part that was merged, which is kept by itself
        if together:
            parents = [self._gallery.get(i) for i in together]
            entry = self._add(recipe, parents, title, result["notes"], out, actor)
            result["merged"] = {"id": entry.id, "sources": together}
            titles = {s.id: self._gallery.get(s.id).title for s in recipe.active}
            result["notes"] = [*result["notes"], who_answers(titles, together)]
        self._keep(recipe, result, None)
        return {
            **result,
            "recipe_id": recipe.id,
            "adapter_id": None,
            "entry": None,
            "notes": [] if result.get("scheduled") else result["notes"],
            "existed": False,
        }

    def _add(
        self,
        recipe: Recipe,
        parents: list[Entry],
        title: str,
        notes: list[str],
        out: Path,
        actor: Actor,
    ) -> Entry:
        """The adapter at `out` in the gallery."""
        ids, cards = [parent.id for parent in parents], [parent.card() for parent in parents]
        return self._gallery.add(
            canonical.read(out, composed_card(recipe, ids, cards, title, notes)),
            owner=actor.sub,
            recipe=recipe.id,
            kind="composed",
            visibility=_visibility(parents, actor),
            allowance=self._access.allowance(actor),
        )

    def _keep_merged(
        self, recipe: Recipe, result: dict[str, Any], out: Path, title: str, actor: Actor
    ) -> dict[str, Any]:
        parents = [self._gallery.get(s.id) for s in recipe.active]
        content = canonical.read(out).id
        existed = self._gallery.has(self._gallery.id_for(content, actor.sub))
        entry = self._add(recipe, parents, title, result["notes"], out, actor)
        if existed:
            note = f"The result equals '{entry.title}', which is in the gallery already."
            result = {**result, "notes": [*result["notes"], note]}
        made = {"sha256": content, **result.pop("fingerprint")}
        self._keep(recipe, result, entry, made)
        return {
            **_brief(result),
            "recipe_id": recipe.id,
            "adapter_id": entry.id,
            "entry": self._access.told(entry.to_dict(), actor),
            "existed": existed,
        }

    def _keep(
        self,
        recipe: Recipe,
        result: dict[str, Any],
        entry: Entry | None,
        made: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Stores the recipe with what came of it; by `made` it is known again, see `replay`."""
        about = {
            **recipe.about,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "tool": {"name": "lora-studio", "version": __version__},
        }
        if entry is not None:
            about["result"] = {
                "id": entry.id,
                "ranks": list(entry.ranks),
                "bytes": entry.bytes,
                **made,
                "cosines": result["cosines"],
                "notes": result["notes"],
            }
        whole = replace(recipe, about=about)
        self._gallery.put_recipe(recipe.id, whole.to_yaml(), result, entry and entry.id)


def _brief(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a result: the shares of its units are for the map alone."""
    return {name: value for name, value in result.items() if name != "shares"}


def _visibility(parents: list[Entry], actor: Actor) -> Visibility:
    """Who sees a composition: what is made of something private stays private, and what somebody
    made without signing in is found by its id only."""
    hidden = any(p.visibility == "private" or p.review_state == "quarantined" for p in parents)
    if hidden and not actor.local:
        return "private"
    return "public" if actor.signed_in else "unlisted"


def _about(entry: Entry) -> dict[str, Any]:
    said = {
        "title": entry.title,
        "license": entry.licence,
        "trigger_words": list(entry.trigger_words),
    }
    return {name: value for name, value in said.items() if value}


def short_title(titles: list[str]) -> str:
    """A name for a composition that stays readable, also for compositions of compositions."""
    distinct = list(dict.fromkeys(titles))
    whole = " + ".join(distinct)
    if len(whole) <= LONGEST_TITLE:
        return whole
    first, others = distinct[0], len(distinct) - 1
    if len(first) > LONGEST_TITLE:
        first = first[:LONGEST_TITLE].rsplit(" ", 1)[0].rstrip(" +") + " …"
    return f"{first} + {others} more" if others else first


def composed_card(
    recipe: Recipe,
    ids: Sequence[str],
    parents: Sequence[AdapterCard],
    title: str,
    notes: Sequence[str],
) -> AdapterCard:
    """The card of a composition; `parents` are the cards of `ids`, its sources."""
    names = short_title([p.title for p in parents])
    method = METHODS.get(recipe.method).title
    licences = {p.licence for p in parents if p.licence}
    share = max(1, SAMPLES_KEPT // len(parents))
    return AdapterCard(
        title=title.strip()[:120] or names,
        description=f"Composed by {method} from {names}. {' '.join(notes)}".strip(),
        tags=("composed", recipe.method),
        licence=licences.pop() if len(licences) == 1 else "",
        base_model=recipe.base["repo"],
        contributor="LoRA Studio",
        samples=tuple(s for p in parents for s in p.samples[:share]),
        source_format="lora-studio",
        parents=tuple(ids),
        recipe=recipe.id,
    )
