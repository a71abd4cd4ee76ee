"""`lora-studio evaluate`: task files answered by adapters and recipes, beside their controls."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lora_studio.cli.bar import Bar
from lora_studio.composition import METHODS
from lora_studio.evaluation.asking import TOKENS
from lora_studio.evaluation.contest import BEST
from lora_studio.evaluation.metrics import METRICS
from lora_studio.settings import Settings
from lora_studio.studio.evaluating import Order, evaluate


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    add = parser.add_argument
    add(
        "tasks",
        nargs="*",
        metavar="TASKS",
        help="JSONL files of {prompt, reference, metric}, or a suite; default: the adapters' tests",
    )
    add(
        "--adapters",
        nargs="+",
        action="extend",
        default=[],
        metavar="ADAPTER",
        help="files, folders, ids in the gallery or names of embedded adapters",
    )
    add("--recipe", nargs="+", action="extend", type=Path, default=[], metavar="FILE",
        help="recipes, or files that carry one")  # fmt: skip
    add("--method", nargs="+", action="extend", default=[], choices=_methods(), metavar="NAME",
        help=f"compose the adapters by: {', '.join(_methods())}")  # fmt: skip
    add("--base", default="", help="base model; default: the one that the adapters name")
    add("--metric", default="", choices=METRICS.names(), help="for all rows, whatever files say")
    add("--prompts", type=_count, default=0, help="of each task, drawn at random; default: all")
    add("--seed", type=int, default=0, help="of that draw")
    add("--tokens", type=_count, default=TOKENS, help="of a written answer, at most")
    add("--kept", type=Path, help="file of answers to go on with; default: in the data folder")
    add("--json", action="store_true", help="print the figures, or the error, as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Asks what was not asked before, and prints tables."""
    order = Order(
        tasks=tuple(args.tasks),
        adapters=tuple(args.adapters),
        recipes=tuple(args.recipe),
        methods=tuple(args.method),
        base=args.base,
        metric=args.metric,
        limit=args.prompts,
        seed=args.seed,
        tokens=args.tokens,
        kept=args.kept,
    )
    try:
        with Bar() as bar:
            found = evaluate(order, settings, bar.show)
    except KeyboardInterrupt:
        print("Stopped. What was answered is kept: run the same to go on.", file=sys.stderr)
        return 1
    print(json.dumps(found, ensure_ascii=False) if args.json else _page(found))
    return 0


def _page(found: dict[str, Any]) -> str:
    pieces = [_table(table) for table in found["tables"]]
    pieces.append(f"{found['asked']} answers asked, all kept in {found['kept']}.")
    return "\n\n".join(pieces)


def _table(table: dict[str, Any]) -> str:
    count = sum(table["tasks"].values())
    head = (
        f"{table['title']} ({table['best']} is better) on {count} prompts of "
        f"{len(table['tasks'])} tasks; 95 % intervals, and how far each is ahead of '{BEST}'"
    )
    lines = [("", "value", "95 %", "ahead", "95 %", "p", "rank", "MB", "ms/prompt")]
    lines += [_line(row) for row in table["rows"]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    notes = [f"{row['label']}: {note}" for row in table["rows"] for note in row["notes"]]
    return "\n".join([head, "", *shown, *(["", *notes] if notes else [])])


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    gap = row["against"].get(BEST)
    ahead = ("", "", "")
    if gap:
        ahead = (f"{gap['value']:+.3f}", f"{gap['low']:+.3f} to {gap['high']:+.3f}", _p(gap["p"]))
    return (
        row["label"],
        f"{row['value']:.3f}",
        f"{row['low']:.3f}-{row['high']:.3f}",
        *ahead,
        str(row["rank"]),
        f"{row['bytes'] / 1e6:.2f}",
        f"{1000 * row['seconds']:.1f}",
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _methods() -> list[str]:
    return [method.name for method in METHODS if method.kind in ("merging", "routing")]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)
