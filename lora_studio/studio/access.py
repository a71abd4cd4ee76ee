"""What one person can see and do of a gallery: the table of permissions put to its adapters.

What somebody may not see is not there for them: the answer is the one for an unknown id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.composition import Recipe
from lora_studio.errors import NotAllowed, NotFound
from lora_studio.gallery import Allowance, Entry, Gallery, Viewer
from lora_studio.hosting import Hosting
from lora_studio.studio import permissions
from lora_studio.studio.permissions import LOCAL, ON_ADAPTERS, STOPPED_BY_A_BAN, VISITOR, Actor


class Access:
    """Asks the table of permissions about one gallery."""

    def __init__(self, hosting: Hosting, gallery: Gallery) -> None:
        self._hosting = hosting
        self._gallery = gallery

    def actor(self, actor: Actor | None) -> Actor:
        """Who asks. Nobody named is the one person of a local studio, and a visitor elsewhere."""
        if self._hosting.local:
            return LOCAL
        return VISITOR if actor is None or actor.local else actor

    def check(self, actor: Actor, action: str, entry: Entry | None = None) -> None:
        """Raises NotAllowed unless `actor` may do `action`."""
        if not permissions.may(actor, action, entry):
            raise NotAllowed(f"You may not do this. {permissions.refusal(action)}")
        if action in STOPPED_BY_A_BAN and (reason := self._ban(actor)) is not None:
            raise NotAllowed(f"A moderator has stopped you from doing this. {reason}".strip())

    def _ban(self, actor: Actor) -> str | None:
        return self._gallery.banned().get(actor.sub) if actor.sub else None

    def entry(self, adapter_id: str, actor: Actor, action: str = "browse") -> Entry:
        """The adapter of an id, if `actor` can see it and may do `action` to it.

        Raises:
            NotFound: it does not exist, as far as this person can tell.
            NotAllowed: it does, and they may not.
        """
        try:
            entry = self._gallery.get(adapter_id)
        except NotFound:
            if actor.local:
                raise
            entry = None
        if entry is None or not permissions.sees(actor, entry):
            raise NotFound(unknown(adapter_id))
        self.check(actor, action, entry)
        return entry

    def visible(self, ids: Iterable[str], actor: Actor) -> None:
        """Raises NotFound if one of these adapters is not there for `actor`."""
        for adapter_id in ids:
            self.entry(adapter_id, actor)

    def recipe(self, recipe: Recipe, actor: Actor) -> Recipe:
        """The recipe, if `actor` can see all its sources."""
        self.visible((source.id for source in recipe.sources), actor)
        return recipe

    def stored_recipe(self, recipe_id: str, actor: Actor) -> dict[str, Any]:
        """A stored recipe, if what it is made of and what came of it are there for `actor`."""
        found = self._gallery.get_recipe(recipe_id)
        recipe = Recipe.from_yaml(found["yaml"])
        part = found["result"].get("merged") or {"id": None}  # of a routed plan
        made = [i for i in (found["adapter_id"], part["id"]) if i]
        for adapter_id in [source.id for source in recipe.sources] + made:
            if self.hidden(adapter_id, actor):
                raise NotFound(f"There is no recipe '{recipe_id[:80]}' in this gallery.")
        told = {name: value for name, value in found["result"].items() if name != "shares"}
        return {**found, "result": told, "recipe": recipe.to_dict()}

    def hidden(self, adapter_id: str, actor: Actor) -> bool:
        """Whether an adapter is here that `actor` must not learn of; what is gone is not hidden."""
        try:
            entry = self._gallery.get(adapter_id)
        except NotFound:
            return False
        return not permissions.sees(actor, replace(entry, deleted=False))

    def hidden_recipe(self, recipe_id: str, actor: Actor) -> bool:
        """Whether a recipe is here that `actor` must not learn of."""
        try:
            self._gallery.get_recipe(recipe_id)
        except NotFound:
            return False
        try:
            self.stored_recipe(recipe_id, actor)
        except NotFound:
            return True
        return False

    def listed(self, entry: Entry, actor: Actor) -> bool:
        """Whether a search of `actor` may show this adapter."""
        shown = entry.visibility == "public" and entry.review_state != "quarantined"
        return not entry.deleted and (shown or "owner" in actor.roles(entry))

    def viewer(self, actor: Actor, *, chosen_for_them: bool = False) -> Viewer:
        """Whose search it is; what is chosen for people without asking has been reviewed."""
        return Viewer(actor.sub, actor.local, reviewed=chosen_for_them and not actor.local)

    def allowance(self, actor: Actor) -> Allowance | None:
        """What a person may add; nobody limits the one of a local studio."""
        quota = self._hosting.quota
        return (
            Allowance(quota.uploads_per_day, quota.bytes_per_person)
            if actor.sub and not actor.moderator
            else None
        )

    def told(self, fields: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
        """An entry's fields as `actor` is told them: who owns it only as whether they do, with
        "may" (what they may do to it) and "new" (nobody has reviewed it yet)."""
        entry = Entry.from_dict(fields)
        told = {name: value for name, value in fields.items() if name not in ("owner", "centroid")}
        told["mine"] = "owner" in actor.roles(entry)
        told["may"] = [a for a in ON_ADAPTERS if permissions.may(actor, a, entry)]
        uploaded = entry.review_state == "unreviewed" and entry.kind == "uploaded"
        told["new"] = uploaded and not actor.local
        return told


class Seen:
    """The gallery as one person sees it, for what reads more than was asked for by name."""

    def __init__(self, gallery: Gallery, access: Access, actor: Actor) -> None:
        self._gallery = gallery
        self._access = access
        self.actor = actor

    def get(self, adapter_id: str) -> Entry:
        """An adapter that is there for this person; raises NotFound."""
        return self._access.entry(adapter_id, self.actor)

    def adapter(self, adapter_id: str) -> Adapter:
        """Its factors and card."""
        return self._gallery.adapter(self.get(adapter_id).id)

    def tests(self, adapter_id: str) -> list[dict[str, Any]]:
        """Its test prompts."""
        return self._gallery.tests(self.get(adapter_id).id)

    def vector(self, adapter_id: str) -> np.ndarray | None:
        """(dim,) unit vector that places it."""
        return self._gallery.vector(self.get(adapter_id).id)

    def get_recipe(self, recipe_id: str) -> dict[str, Any]:
        """A stored recipe that is there for this person."""
        return self._access.stored_recipe(recipe_id, self.actor)


def unknown(adapter_id: str) -> str:
    """What is said of an id that is not there, or must seem so."""
    return f"There is no adapter '{adapter_id[:64]}' in this gallery. Search for it by name."
