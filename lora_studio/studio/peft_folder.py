"""One adapter as people are given it: a PEFT folder with its recipe, its card, and a picture of the
rank units it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_studio.adapter import Adapter
from lora_studio.composition import Recipe, choose_units
from lora_studio.errors import LoraStudioError
from lora_studio.formats import card, export
from lora_studio.studio import model_card
from lora_studio.studio.model_card import Parent, slug
from lora_studio.studio.unit_picture import unit_picture

RECIPE_FILE = "recipe.yaml"
PICTURE_FILE = "units.svg"

__all__ = ["Parent", "slug", "write_peft"]


def write_peft(
    adapter: Adapter,
    home: Path,
    recipe: Recipe | None = None,
    parents: Sequence[Parent] = (),
    extra: Mapping[str, str] | None = None,
    dtype: str = "",
) -> Path:
    """Writes the folder `home`; the weights are read back and compared first.

    Args:
        recipe: what it was composed by; stands in the weights' header too.
        parents: what it was composed from.
        extra: further text files by name.
        dtype: as in `formats.export`.
    """
    told = {"recipe": json.dumps(recipe.to_dict())} if recipe else {}
    export(adapter, "peft", home, told, dtype)
    files = dict(extra or {})
    picture = None
    if recipe is not None:
        files[RECIPE_FILE] = recipe.to_yaml()
        picture = _picture(adapter, recipe, parents)
    if picture:
        files[PICTURE_FILE] = picture.svg
    caption = f"{PICTURE_FILE}: {picture.caption}" if picture else ""
    body = model_card.body(adapter, recipe, parents, PICTURE_FILE if picture else "", caption)
    files["README.md"] = card.render(adapter.card, body)
    for name, text in files.items():
        (home / name).write_text(text, encoding="utf-8")
    return home


def _picture(adapter: Adapter, recipe: Recipe, parents: Sequence[Parent]):
    """Of the sources as they took part; None where one is gone or has too many units."""
    given = {parent.id: parent.adapter for parent in parents if parent.adapter is not None}
    active = recipe.active
    try:
        sources = [choose_units(given[s.id], s) for s in active]
    except (KeyError, LoraStudioError):
        return None
    titles = [given[s.id].card.title or s.id[:8] for s in active]
    return unit_picture(adapter, sources, [s.weight for s in active], titles)
