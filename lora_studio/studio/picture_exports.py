"""Downloads of image adapters: one file for diffusers or for kohya's readers, and plans that are
carried out while a picture is made, as their sources with the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Recipe, Scheduled
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.formats import EXPORTS, export
from lora_studio.gallery import Entry
from lora_studio.studio.access import Seen
from lora_studio.studio.exports import recipe_of, zipped
from lora_studio.studio.peft_folder import slug


def export_file(
    gallery: Seen, adapter_id: str, dialect: str, family: str, folder: Path, dtype: str = ""
) -> Path:
    """One .safetensors of an image adapter, read back before it is handed out.

    Args:
        dialect: "diffusers" or "kohya".
        family: of its base model, for the file's header; "" if not known.

    Raises:
        InvalidRequest: a text adapter, or a dialect that cannot say this adapter.
    """
    entry = gallery.get(adapter_id)
    if entry.modality != "image" or dialect == "peft":
        raise InvalidRequest(
            f"'{entry.title}' is not written as {dialect}. There is: "
            f"{', '.join(EXPORTS.names()) if entry.modality == 'image' else 'peft'}."
        )
    kind = "-".join(filter(None, (dialect, dtype)))
    path = folder / f"{slug(entry.title, 'adapter')}-{entry.id[:8]}-{kind}.safetensors"
    half = folder / f"{uuid4().hex}.safetensors"
    try:
        export(gallery.adapter(entry.id), dialect, half, _facts(gallery, entry, family), dtype)
        return half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def export_scheduled(gallery: Seen, recipe: Recipe, plan: Scheduled, folder: Path) -> Path:
    """Zips a plan for denoising: its sources for diffusers, the recipe and a README."""
    name = f"{recipe.method}-{recipe.id[:8]}"
    with TemporaryDirectory(dir=folder) as scratch:
        home = Path(scratch) / name
        rows = []
        for source in recipe.active:
            adapter = gallery.adapter(source.id)
            file = f"adapters/{slug(adapter.card.title, 'adapter')}-{source.id[:8]}.safetensors"
            export(adapter, "diffusers", home / file)
            rows.append(_row(adapter, file, source.weight))
        (home / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        (home / "README.md").write_text(_readme(recipe, plan, rows), encoding="utf-8")
        return zipped(home, folder / f"{name}.zip")


def _facts(gallery: Seen, entry: Entry, family: str) -> Mapping[str, str]:
    titles = []
    for parent in entry.parents:
        try:
            titles.append(gallery.get(parent).title)
        except NotFound:
            titles.append(parent[:12])
    facts = {"family": family, "date": entry.created, "merged_from": ", ".join(titles)}
    if found := recipe_of(gallery, entry):
        facts["recipe"] = json.dumps(found.to_dict())
    return {name: text for name, text in facts.items() if text}


def _row(adapter: Adapter, file: str, weight: float) -> str:
    words = ", ".join(adapter.card.trigger_words).replace("|", "\\|")
    return f"| `{file}` | {weight:g} | {words} |"


def _readme(recipe: Recipe, plan: Scheduled, rows: list[str]) -> str:
    method = METHODS.get(recipe.method)
    params = ", ".join(f"{k} = {v}" for k, v in recipe.params.items())
    table = "\n".join(["| Adapter | Weight | Trigger words |", "|---|---|---|", *rows])
    notes = "".join(f"- {note}\n" for note in plan.notes)
    paper = f"\n\nPaper: {method.paper}" if method.paper else ""
    return (
        f"# {method.title} of {len(rows)} adapters\n\n{method.summary}{paper}\n\n"
        f"Base model: {recipe.base.get('repo', '')}. Parameters: {params or 'none'}. "
        f"{plan.passes:g} denoiser passes per step.\n\n{table}\n\n{notes}"
        "It runs while a picture is made, so there is no single file. Add the adapters to LoRA "
        "Studio and open `recipe.yaml`; each file alone loads with `load_lora_weights`.\n"
    )
