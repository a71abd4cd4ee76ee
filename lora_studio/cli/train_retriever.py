"""`lora-studio train-retriever`: a head over the embedder, and whether it was worth it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lora_studio.cli.bar import Bar
from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.embed import load_embedder
from lora_studio.retrieval.head import Head, head_path, save_head
from lora_studio.settings import Settings
from lora_studio.training.retriever_head import HeadSpec, fit_head, trained_on
from lora_studio.training.retriever_report import Line, compare, table
from lora_studio.training.retriever_tasks import embed_tasks, read_tasks


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    add = parser.add_argument
    add(
        "adapters",
        type=Path,
        nargs="*",
        help="folders of adapters, or of folders of them, whose cards have sample inputs; their "
        "test.jsonl judges the result; default: the demo's",
    )
    add("--fraction", type=float, default=HeadSpec.fraction, help="of the tasks to train on")
    add("--seed", type=int, default=HeadSpec.seed, help="which tasks are trained on")
    add("--steps", type=int, default=HeadSpec.steps)
    add("--rate", type=float, default=HeadSpec.rate, help="larger forgets more of the embedder")
    add("--temperature", type=float, default=HeadSpec.temperature)
    add("--prompts", type=int, default=100, help="test prompts of each task")
    add("-o", "--out", type=Path, help="default: where the studio looks for it")
    add("--json", action="store_true", help="print the report, or the error, as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Trains, compares with the bare embedder, writes."""
    spec = HeadSpec(args.fraction, args.temperature, args.steps, args.rate, args.seed)
    embedder = load_embedder(settings.embedder)
    folders = list(_folders(args.adapters or [settings.demo_adapters_dir]))
    with Bar(shown=not args.json) as bar:
        known = embed_tasks(read_tasks(folders, args.prompts), embedder, bar.show)
        seen = trained_on(list(known.samples), spec)
        chosen = {task: known.samples[task] for task in seen}
        head = fit_head(embedder.id, chosen, spec, bar.show)
    lines = compare(known.places, known.prompts, head, seen) if known.prompts else []
    report = [line.to_dict() for line in lines]
    head = replace(head, facts={**head.facts, "report": report})
    out = args.out or head_path(embedder.id, settings.data_dir)
    save_head(head, out)
    _tell(args, head, lines, out)
    return 0


def _folders(places: Sequence[Path]) -> Iterator[Path]:
    """Each folder of an adapter, or those in it."""
    for place in places:
        if not place.is_dir():
            raise InvalidRequest(f"There is no folder at {place}.")
        inside = [p for p in sorted(place.iterdir()) if p.is_dir() and any(p.glob("*.safetensors"))]
        yield from inside or [place]


def _tell(args: argparse.Namespace, head: Head, lines: Sequence[Line], out: Path) -> None:
    if args.json:
        facts = {"out": str(out), "id": head.id, "embedder": head.embedder, **head.facts}
        print(json.dumps(facts))
        return
    if lines:
        print(table(lines))
    print(f"{out}: a head for {head.embedder}, trained on {', '.join(head.facts['tasks'])}.")
    if not args.out:
        print("A studio with this data folder searches with it from its next start.")
