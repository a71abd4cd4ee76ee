"""Task: make pictures, prompts by columns, each column under its own plan; the files carry how
they were made."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from PIL import Image, PngImagePlugin

from lora_studio.composition import METHODS, Merged, Recipe, choose_units, run_recipe
from lora_studio.composition.schedule import Scheduled
from lora_studio.engines.pictures import Denoising, ImageRow, Picture, StepUpdate, plain
from lora_studio.errors import InvalidRequest
from lora_studio.evaluation.image_probe import ImageProbe
from lora_studio.formats.carried import PNG_TEXT
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.blobs import Blobs
from lora_studio.worker.tasks.running import image_engine_for, load_adapters

if TYPE_CHECKING:
    from lora_studio.engines.image import ImageEngine

PREVIEWS = 4
"""How often unfinished pictures are shown in one run, unless the caller says otherwise."""


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, max_rows, adapters {id: blob path}, columns [{title, terms [[id, weight]]
    or rows (such terms for each prompt) or recipe with samples {id: [prompt]}}], prompts, seeds
    (one per prompt), negative, steps, guidance, width, height, scheduler, preview_every (steps;
    -1 = a few times, 0 = never), out (folder for the files).

    Sends data {cells: [{prompt, column, step, steps, preview, done}]} with preview a data URL or
    None, and {prompt, column, done, path, passes} for each finished picture. Returns {cells,
    seconds, columns [{passes}], steps, guidance, width, height}.
    """
    engine = image_engine_for({**args, "modality": "image"}, ctx)
    ids = dict(args.get("adapters") or {})
    load_adapters(engine, ids, ctx)
    guests: list[str] = []
    try:
        plans = [_plans(engine, column, args, ids, guests, ctx) for column in args["columns"]]
        return _render(engine, plans, args, ctx)
    finally:
        for guest in guests:
            engine.bank.remove(guest)


def _plans(
    engine: ImageEngine,
    column: Mapping[str, Any],
    args: Mapping[str, Any],
    blobs: Mapping[str, str],
    guests: list[str],
    ctx: JobContext,
) -> list[Scheduled]:
    """One plan per prompt; adapters made on the way are guests of the bank until the job ends."""
    prompts = len(args["prompts"])
    if "recipe" not in column:
        rows = column.get("rows") or [column.get("terms") or []] * prompts
        return [plain({str(i): float(w) for i, w in terms}) for terms in rows]
    recipe = Recipe.from_dict(column["recipe"])
    lookup = Blobs(blobs, ctx)
    probe = None
    if METHODS.get(recipe.method).tunes(recipe.params):
        sources = {s.id: choose_units(lookup(s.id), s) for s in recipe.active}
        probe = ImageProbe(engine, sources, column.get("samples") or {}, lookup.progress, ctx.check)
    plan = run_recipe(
        recipe, lookup, probe=probe, family=engine.family.name, progress=lookup.progress
    )
    if isinstance(plan, Merged):
        plan = Scheduled(
            plain({f"merged-{recipe.id}": 1.0}).branches,
            replaced={f"merged-{recipe.id}": plan.adapter},
        )
    if not isinstance(plan, Scheduled):
        raise InvalidRequest("A routed recipe is resolved prompt by prompt before it gets here.")
    for guest, adapter in plan.replaced.items():
        engine.bank.add(guest, adapter, keep=[*blobs, *guests])
        guests.append(guest)
    return [plan] * prompts


def _render(
    engine: ImageEngine,
    plans: Sequence[Sequence[Scheduled]],
    args: Mapping[str, Any],
    ctx: JobContext,
) -> dict[str, Any]:
    wish = engine.settled(Denoising.from_dict(args))
    prompts, seeds = list(args["prompts"]), list(args["seeds"])
    rows = [
        ImageRow(f"{p}.{c}", prompt, plans[c][p], int(seeds[p]))
        for p, prompt in enumerate(prompts)
        for c in range(len(plans))
    ]
    every = int(args.get("preview_every", -1))
    if every < 0:
        every = max(1, wish.steps // (PREVIEWS + 1))
    folder = Path(args["out"])
    folder.mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, Any]] = []
    done = 0

    def on_step(update: StepUpdate) -> None:
        share = (done + len(update.ids) * update.step / update.steps) / len(rows)
        ctx.progress(share, f"step {update.step} of {update.steps}")
        if not update.previews and update.step > 1:
            return
        shown = update.previews or (None,) * len(update.ids)
        ctx.emit(
            {
                "cells": [
                    {
                        **_place(row),
                        "step": update.step,
                        "steps": update.steps,
                        "preview": None if picture is None else _data_url(picture),
                        "done": False,
                    }
                    for row, picture in zip(update.ids, shown, strict=True)
                ]
            }
        )

    def on_picture(picture: Picture) -> None:
        nonlocal done
        done += 1
        place = _place(picture.id)
        row, column = rows[done - 1], args["columns"][place["column"]]
        path = folder / f"{uuid4().hex}.png"
        _save(path, picture.pixels, _facts(engine, row, column, wish))
        cells.append({**place, "done": True, "path": str(path), "passes": picture.passes})
        ctx.emit({"cells": cells[-1:]})

    ctx.progress(0.0, f"making {len(rows)} pictures")
    made = engine.generate(
        rows,
        wish,
        on_step=on_step,
        on_picture=on_picture,
        check=ctx.check,
        preview_every=every,
    )
    seconds = {picture.seconds for picture in made}
    return {
        "cells": cells,
        "seconds": sum(seconds),
        "columns": [{"passes": made[c].passes} for c in range(len(plans))],
        "steps": wish.steps,
        "guidance": wish.guidance,
        "width": wish.width,
        "height": wish.height,
    }


def _place(row_id: str) -> dict[str, int]:
    prompt, _, column = row_id.partition(".")
    return {"prompt": int(prompt), "column": int(column)}


def _facts(
    engine: ImageEngine, row: ImageRow, column: Mapping[str, Any], wish: Denoising
) -> dict[str, Any]:
    """What is needed to make the picture again."""
    how = {name: column[name] for name in ("title", "terms", "rows", "recipe") if name in column}
    return {
        "tool": "lora-studio",
        "base": engine.base,
        "prompt": row.prompt,
        "seed": row.seed,
        "negative": wish.negative,
        "steps": wish.steps,
        "guidance": wish.guidance,
        "width": wish.width,
        "height": wish.height,
        "scheduler": wish.scheduler or type(engine.pipe.scheduler).__name__,
        "column": how,
    }


def _save(path: Path, pixels: np.ndarray, facts: Mapping[str, Any]) -> None:
    """A PNG with the facts as JSON under "lora_studio", and as other tools read them under
    "parameters"."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(PNG_TEXT, json.dumps(facts, ensure_ascii=False))
    negative = f"\nNegative prompt: {facts['negative']}" if facts["negative"] else ""
    text.add_itxt(
        "parameters",
        f"{facts['prompt']}{negative}\nSteps: {facts['steps']}, Sampler: {facts['scheduler']}, "
        f"CFG scale: {facts['guidance']:g}, Seed: {facts['seed']}, "
        f"Size: {facts['width']}x{facts['height']}, Model: {facts['base']}",
    )
    Image.fromarray(pixels).save(path, pnginfo=text)


def _data_url(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
