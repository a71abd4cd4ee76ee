"""The command line: recipes composed again, task files answered, and for whoever runs a studio
copies of the gallery, checks, removal for good.

Each command prints what it did and returns 0, or says what is wrong and returns 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lora_studio.cli import compose, evaluate, train_retriever, train_router
from lora_studio.errors import LoraStudioError
from lora_studio.gallery import Gallery
from lora_studio.gallery.backup import Backup, back_up, check_copy, restore
from lora_studio.gallery.verify import verify
from lora_studio.retrieval.private_card import write_private_card
from lora_studio.settings import MINILM, Settings
from lora_studio.worker.job import error_event


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; see `lora-studio --help`."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.CRITICAL)  # what a log would say is printed
    settings = Settings.from_env()
    if args.data:
        settings = replace(settings, data_dir=args.data.expanduser().resolve())
    try:
        return args.run(args, settings)
    except LoraStudioError as error:
        if getattr(args, "json", False):
            told = error_event(error)
            print(json.dumps({"error": {k: told[k] for k in ("code", "refusal", "message")}}))
        else:
            print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lora-studio",
        description="Composes and evaluates, and looks after a LoRA Studio's gallery and cards.",
    )
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data", type=Path, help="the studio's data folder; default: LORA_STUDIO_DATA, or .studio"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[data])
        added.set_defaults(run=run)
        return added

    add = command("backup", _backup, "Copy the gallery; the studio may be running.").add_argument
    add("target", type=Path, help="a folder that is not there yet, or a name ending in .zip")
    add = command("restore", _restore, "Put a copy in the gallery's place.").add_argument
    add("backup", type=Path)
    add("--replace", action="store_true", help="take the place of a gallery, which is kept beside")
    add = command("verify", _verify, "Read every file and tell what is damaged.").add_argument
    add("backup", type=Path, nargs="?", help="check this copy instead of the gallery")
    add = command("purge", _purge, "Remove adapters for good: row and files.").add_argument
    add("id", nargs="+", help="id of an adapter, or its first 8 characters or more")
    add("--yes", action="store_true", help="do not ask")
    add = command("card", _card, "Put the centroid of sample inputs in a card, not the samples.")
    add.add_argument("folder", type=Path, help="an adapter's folder; its README.md is rewritten")
    add.add_argument("--samples", type=Path, help="a file of sample inputs, one a line")
    add.add_argument("--embedder", default=MINILM, help="minilm, or that of the studio it goes to")
    add = command("compose", compose.run, "Compose a recipe again and compare the result.")
    compose.arguments(add)
    add = command("train-retriever", train_retriever.run, "Train the retriever on sample inputs.")
    train_retriever.arguments(add)
    add = command("train-router", train_router.run, "Fit a token router on adapters.")
    train_router.arguments(add)
    add = command("evaluate", evaluate.run, "Answer task files and compare with controls.")
    evaluate.arguments(add)
    return parser


def _card(args: argparse.Namespace, settings: Settings) -> int:
    made = write_private_card(args.folder, args.samples, args.embedder)
    print(
        f"{args.folder / 'README.md'} now holds the centroid of {made.count} sample inputs "
        f"({made.embedder}) and none of the inputs."
    )
    return 0


def _backup(args: argparse.Namespace, settings: Settings) -> int:
    done = back_up(settings, args.target)
    print(f"Copied {_size(done)} to {args.target}.")
    _left_out(done)
    return 0


def _restore(args: argparse.Namespace, settings: Settings) -> int:
    done, before = restore(args.backup, settings, replace=args.replace)
    print(f"Restored {_size(done)} to {settings.data_dir}; every digest was right.")
    if before is not None:
        print(f"The gallery that was there is kept in {before}.")
    _left_out(done)
    return 0


def _verify(args: argparse.Namespace, settings: Settings) -> int:
    if args.backup:
        done, problems = check_copy(args.backup)
        what = f"{args.backup}: {_size(done)}"
    else:
        found = verify(settings)
        problems = found.problems
        what = f"{settings.data_dir}: {found.adapters} adapters, {found.bytes / 1e6:,.1f} MB"
        if found.strays:
            print(f"{found.strays} files belong to no adapter; a start removes them in an hour.")
    for problem in problems:
        print(problem)
    if problems:
        print(f"{what}, {len(problems)} damaged. What is damaged is not shown and not deleted.")
        return 1
    print(f"{what}, all as they were stored.")
    return 0


def _purge(args: argparse.Namespace, settings: Settings) -> int:
    gallery = Gallery.open(settings)
    try:
        entries = [gallery.get(name) for name in args.id]
        for entry in entries:
            print(f"{entry.id[:12]}  {entry.title}")
        if not args.yes and not _agreed(len(entries)):
            print("Nothing was removed. Add --yes to remove without being asked.")
            return 1
        for entry in entries:
            gallery.purge(entry.id)
    finally:
        gallery.close()
    print(f"Removed {len(entries)} for good. Copies of the gallery made earlier still hold them.")
    return 0


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"Remove {count} for good? There is no undo. [y/N] ").strip().lower() == "y"


def _size(done: Backup) -> str:
    return f"{done.adapters} adapters, {done.files} files, {done.bytes / 1e6:,.1f} MB"


def _left_out(done: Backup) -> None:
    if done.left_out:
        print(f"Without the files of {', '.join(done.left_out)}, which were damaged.")
