"""Task: read an uploaded file, check it, and write it in the studio's own form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_studio.adapter import AdapterCard
from lora_studio.errors import IncompatibleAdapters
from lora_studio.families import check_fits, module_shapes
from lora_studio.formats import canonical, load
from lora_studio.worker.job import JobContext

FROM_PEOPLE = ("title", "description", "licence", "contributor", "base_model")


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: path, out (file to write), max_bytes, card (fields a person typed; they win).

    Returns {card, tests, report}.
    """
    ctx.progress(0.1, "reading the file")
    loaded = load(args["path"], int(args["max_bytes"]))
    ctx.check()
    typed = {k: v for k, v in args.get("card", {}).items() if v and k in FROM_PEOPLE}
    card = replace(loaded.adapter.card, **typed)
    lists = {k: v for k, v in args.get("card", {}).items() if v and k in ("samples", "tags")}
    if lists:
        typed_lists = AdapterCard.from_dict(lists)
        card = replace(card, **{name: getattr(typed_lists, name) for name in lists})
    adapter = replace(loaded.adapter, card=card)
    ctx.progress(0.6, "comparing with the base model")
    shapes = module_shapes(card.base_model)
    if problems := check_fits(adapter, shapes):
        raise IncompatibleAdapters(
            f"This adapter does not fit {card.base_model}: {problems[0]}"
            + (f" (and {len(problems) - 1} more)." if len(problems) > 1 else ".")
            + " Name the base model it was trained on."
        )
    report = [
        f"PEFT LoRA, {len(adapter.factors)} modules, rank {adapter.max_rank}, "
        f"{adapter.parameters:,} parameters; all values are finite.",
        *loaded.report,
        f"Every module fits {card.base_model}."
        if shapes
        else f"The base model ({card.base_model or 'not named'}) is not on this machine, so module "
        "sizes were not compared with it.",
    ]
    ctx.progress(0.8, "writing")
    Path(args["out"]).write_bytes(canonical.dump(adapter))
    return {"card": card.to_dict(), "tests": loaded.tests, "report": report}
