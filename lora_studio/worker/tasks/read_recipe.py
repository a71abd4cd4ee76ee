"""Task: find the recipe that an uploaded file carries, and check what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_studio.composition.mergekit import read_any
from lora_studio.formats.carried import carried_recipe
from lora_studio.limits import Limits, limited
from lora_studio.worker.job import JobContext


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: path, limits. Returns {recipe, notes}; sources are named as the file names them."""
    ctx.progress(None, "reading the recipe")
    with limited(Limits.from_dict(args.get("limits") or {})):
        text = carried_recipe(Path(args["path"]))
    found = read_any(text)
    return {"recipe": found.recipe.to_dict(), "notes": list(found.notes)}
