"""`lora-studio train-router`: fits a token router on adapters of a base model."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from lora_studio.cli.bar import Bar
from lora_studio.composition.token_router import fitted_rules
from lora_studio.errors import InvalidRequest
from lora_studio.families import modality_of
from lora_studio.fitted import own_path
from lora_studio.gallery import Gallery
from lora_studio.gallery.entry import Entry
from lora_studio.settings import DEMO_BASE, Settings
from lora_studio.studio.demos import add_demo


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    add = parser.add_argument
    add("adapters", nargs="*", help="ids, or their first 8 characters; default: all of the base")
    add("--rule", choices=fitted_rules(), default="router_lora", help="default: router_lora")
    add("--base", default=DEMO_BASE, help="base model; default: the embedded one")
    add("--fraction", type=float, help="share of the adapters to fit on; default: .4, gates: all")
    add("--steps", type=int, default=300)
    add("--rate", type=float, default=0.003)
    add("--drop", type=float, default=0.0, help="chance that a row goes without its own adapter")
    add("--seed", type=int, default=0)
    add("-o", "--out", type=Path, help="default: where the studio looks for it")
    add("--json", action="store_true", help="print what was done, or the error, as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Fits, writes, and tells the loss before and after."""
    from lora_studio.composition.router_weights import save_router
    from lora_studio.engines.text import TextEngine
    from lora_studio.training.token_router import RouterSpec, fit_router

    fraction = args.fraction or (0.4 if args.rule == "router_lora" else 1.0)
    if not 0 < fraction <= 1:
        raise InvalidRequest("--fraction is a share above 0, up to 1.")
    if modality_of(args.base) != "text":
        raise InvalidRequest(f"{args.base} makes pictures; token routers are for language models.")
    gallery = Gallery.open(settings)
    try:
        if args.base == DEMO_BASE:
            add_demo(settings, gallery)
        entries = chosen(gallery, args.base, args.adapters, fraction, args.seed)
        adapters = {entry.id: gallery.adapter(entry.id) for entry in entries}
        samples = {entry.id: list(entry.samples) for entry in entries}
    finally:
        gallery.close()
    spec = RouterSpec(args.rule, steps=args.steps, rate=args.rate, drop=args.drop, seed=args.seed)
    engine = TextEngine(args.base, settings.device, settings.max_rows)
    with Bar(shown=not args.json) as bar:
        found = fit_router(engine, adapters, samples, spec, bar.show)
    out = args.out or own_path(args.rule, args.base, settings.data_dir)
    save_router(found, out)
    told: dict[str, Any] = {"out": str(out), **found.facts}
    if args.json:
        print(json.dumps(told))
        return 0
    loss = told["loss"]
    print(
        f"{out}: {args.rule} fitted on {len(told['adapters'])} adapters and {told['lessons']} of "
        f"their answers in {told['seconds']} s; loss {loss['before']} -> {loss['after']}."
    )
    return 0


def chosen(
    gallery: Gallery, base: str, names: list[str], fraction: float, seed: int
) -> list[Entry]:
    """Adapters of a base model that have sample inputs: those named, or a share drawn at random.

    Raises:
        InvalidRequest: fewer than two.
    """
    found = [gallery.get(name) for name in names]
    if not names:
        found = [hit.entry for hit in gallery.search(base=base, limit=10_000).hits]
        found = [entry for entry in found if not entry.parents]
    known = sorted((entry for entry in found if entry.samples), key=lambda entry: entry.id)
    if not names:
        count = min(len(known), max(2, round(fraction * len(known))))
        known = random.Random(seed).sample(known, count)
    if len(known) < 2:
        raise InvalidRequest(
            f"Fewer than two adapters for {base} have sample inputs. Add them to the gallery with "
            "about 20 sample inputs each, or name a base model with --base."
        )
    return known
