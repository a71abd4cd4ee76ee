"""What people ask about recipes at once: their downloads, what changed between two, and which
modules a weight means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_studio.composition import Recipe
from lora_studio.composition.module_weights import checked_weights, depths, module_factors
from lora_studio.errors import InvalidRequest
from lora_studio.studio.changes import changes, related
from lora_studio.studio.offers import mergekit_text, offers
from lora_studio.studio.permissions import Actor
from lora_studio.studio.reopening import Reopening


class RecipeDesk(Reopening):
    """The part of a studio that answers for stored recipes."""

    def list_exports(self, recipe_id: str, *, actor: Actor | None = None) -> dict[str, Any]:
        """The forms in which a composition can be taken away, see `offers.offers`, and the entry
        of its adapter, or None."""
        who = self._access.actor(actor)
        found = self._access.stored_recipe(recipe_id, who)
        recipe, made = Recipe.from_dict(found["recipe"]), found["adapter_id"]
        if not made:
            return {**offers(recipe, None), "entry": None}
        entry = self._access.entry(made, who)
        told = self._access.told(entry.to_dict(), who)
        return {**offers(recipe, self.gallery.adapter(entry.id)), "entry": told}

    def export_mergekit(self, recipe_id: str, *, actor: Actor | None = None) -> str:
        """The mergekit YAML of a stored recipe; adapters are the folders of their downloads.

        Raises:
            InvalidRequest: mergekit has no such method, or it is for pictures.
        """
        who = self._access.actor(actor)
        recipe = Recipe.from_dict(self._access.stored_recipe(recipe_id, who)["recipe"])
        titles = {s.id: self._access.entry(s.id, who).title for s in recipe.active}
        return mergekit_text(recipe, titles)

    def compare_recipes(
        self, before: str, after: str, *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """What was changed from one stored recipe to another: {related, changes [phrases]}."""
        who = self._access.actor(actor)
        old, new = (
            Recipe.from_dict(self._access.stored_recipe(key, who)["recipe"])
            for key in (before, after)
        )
        return {"related": related(old, new), "changes": changes(old, new)}

    def check_module_weights(
        self, id: str, weights: Any, *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """What weights by module come to in one adapter, each key checked by itself.

        Result {keys: {key: {modules, error}}, layers: [mean factor by depth], modules}; layers is
        [] while a key is wrong.

        Raises:
            InvalidRequest: `weights` is no object.
        """
        if not isinstance(weights, Mapping):
            raise InvalidRequest("Weights by module are an object: {modules: weight}.")
        who = self._access.actor(actor)
        names = list(self.gallery.adapter(self._access.entry(id, who).id).factors)
        keys = {str(key): _key(str(key), value, names) for key, value in weights.items()}
        good = bool(keys) and not any(row["error"] for row in keys.values())
        return {
            "keys": keys,
            "modules": len(names),
            "layers": _by_depth(dict(weights), names) if good else [],
        }


def _key(key: str, value: Any, names: list[str]) -> dict[str, Any]:
    try:
        checked = checked_weights({key: value})
        marked = module_factors({"*": 0.0, key: 1.0}, names) if key != "*" else dict.fromkeys(names)
        module_factors(checked, names)
    except InvalidRequest as error:
        return {"modules": 0, "error": str(error)}
    return {"modules": sum(factor != 0.0 for factor in marked.values()), "error": ""}


def _by_depth(weights: dict[str, Any], names: list[str]) -> list[float]:
    factors, places = module_factors(checked_weights(weights), names), depths(names)
    groups: dict[float, list[float]] = {}
    for name in names:
        groups.setdefault(places[name], []).append(factors[name])
    return [sum(group) / len(group) for _, group in sorted(groups.items())]
