"""Rebuilds the embedded demos from nothing: base models, adapters, tests and reports.

`python -m lora_studio.demo.build [--demo text|image] [--only base|adapters|report]`
"""

from __future__ import annotations

import argparse
import json
import logging
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lora_studio.demo.specs import AdapterSpec, adapter_specs
from lora_studio.demo.vocabulary import demo_folder

log = logging.getLogger(__name__)

FACTS = "training.json"
STAGES = ("base", "adapters", "report")


def read_facts(root: Path) -> dict[str, Any]:
    """What training recorded: {"base": {...}, "adapters": {name: {...}}}."""
    path = root / FACTS
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"base": {}, "adapters": {}}


def record(root: Path, kind: str, facts: dict[str, Any]) -> None:
    """Adds to the recorded facts of one kind ("base" or "adapters")."""
    known = read_facts(root)
    known[kind] |= facts
    root.mkdir(parents=True, exist_ok=True)
    (root / FACTS).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def build_base(root: Path, device: str) -> None:
    """Trains tokenizer and base model."""
    from lora_studio.demo import base

    record(root, "base", base.build_base(root / "base", device))


def build_adapters(root: Path, device: str, only: str = "*") -> None:
    """Trains the adapters whose name matches `only`, and writes cards and test files."""
    from lora_studio.demo import adapters, cards
    from lora_studio.demo.tasks import chained_tasks

    model, tokenizer = adapters.load_base(root / "base", device)
    for spec in adapter_specs():
        if fnmatch(spec.name, only):
            _build_one(root, spec, model, tokenizer, device)
    for task in chained_tasks():
        cards.write_tests(cards.held_out_examples(task), root / "tests" / f"{task.name}.jsonl")


def _build_one(root: Path, spec: AdapterSpec, model: Any, tokenizer: Any, device: str) -> None:
    from lora_studio.demo import adapters, cards, derived

    folder = root / "adapters" / spec.name
    facts: dict[str, float] = {}
    if spec.source:
        derived.derive(spec, root / "adapters" / spec.source, folder)
    else:
        trained = adapters.train_adapter(model, tokenizer, spec, device)
        adapters.save_adapter(trained.model, folder)
        trained.model.unload()
        facts = {
            "loss": round(trained.loss, 4),
            "cpu_seconds": round(trained.cpu_seconds, 1),
            "unique_samples": trained.unique_samples,
        }
        record(root, "adapters", {spec.name: facts})
    cards.write_card(spec, facts, folder)
    cards.write_tests(cards.held_out_examples(spec.task), folder / "test.jsonl")


def main(arguments: list[str] | None = None) -> None:
    """Command line of the build."""
    parser = argparse.ArgumentParser(prog="python -m lora_studio.demo.build", description=__doc__)
    parser.add_argument("--demo", choices=("text", "image"), help="build one; both otherwise")
    parser.add_argument("--only", choices=STAGES, help="build one stage; earlier ones must exist")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--adapters", default="*", help="pattern of adapter names, e.g. 'plain-*'")
    parser.add_argument("--into", type=Path, help="folder of the assets, with --demo")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.into and not options.demo:
        parser.error("--into needs --demo text or --demo image")
    stages = (options.only,) if options.only else STAGES
    if options.demo in (None, "text"):
        build_text(options.into or demo_folder(), stages, options.device, options.adapters)
    if options.demo in (None, "image"):
        from lora_studio.demo.image.build import build
        from lora_studio.demo.image.config import demo_folder as image_folder

        build(options.into or image_folder(), stages, options.device, options.adapters)


def build_text(root: Path, stages: tuple[str, ...], device: str, only: str = "*") -> None:
    """Runs the named stages of the text demo in order."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)  # at this size more threads only wait for each other
    if "base" in stages:
        build_base(root, device)
    if "adapters" in stages:
        build_adapters(root, device, only)
    if "report" in stages:
        from lora_studio.demo.measure import measure

        measure(root, read_facts(root), device)
    log.info("done: %s", root)


if __name__ == "__main__":
    main()
