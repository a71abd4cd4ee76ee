"""`lora-studio compose`: a recipe, or a file that carries one, becomes an adapter again."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from lora_studio.composition.mergekit import read_any
from lora_studio.composition.replay import TOLERANCE
from lora_studio.errors import InvalidRequest
from lora_studio.formats import EXPORTS, export
from lora_studio.formats.carried import carried_recipe
from lora_studio.formats.halves import DType
from lora_studio.settings import Settings
from lora_studio.studio.exports import zipped
from lora_studio.studio.peft_folder import Parent, slug, write_peft
from lora_studio.studio.rebuilding import Rebuilt, rebuild


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    add = parser.add_argument
    add("recipe", type=Path, help="recipe.yaml, a mergekit YAML, or an adapter or PNG made here")
    add("-o", "--out", type=Path, help="folder, .zip or .safetensors to write; must not exist yet")
    add(
        "--from",
        dest="files",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an adapter to take instead of one in the gallery; may be given several times",
    )
    add("--format", choices=EXPORTS.names(), help="default: diffusers for .safetensors, else peft")
    add("--dtype", choices=get_args(DType), default="", help="numbers of the factors")
    add("--title", default="", help="name of the result; default: after its sources")
    add("--json", action="store_true", help="print what was done, or the error, as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Composes, compares, writes; what differs is not written."""
    if args.out is not None and args.out.exists():
        raise InvalidRequest(f"{args.out} is there already. Name another place, or remove it.")
    found = read_any(carried_recipe(args.recipe))
    with rebuild(found.recipe, settings, args.files, args.title) as made:
        out = args.out or Path(f"{slug(made.adapter.card.title, 'adapter')}-{made.adapter.id[:8]}")
        if out.exists():
            raise InvalidRequest(f"{out} is there already. Name another place with -o.")
        _write(made, out, args.format, args.dtype)
        _tell(made, out, list(found.notes), args.json)
    return 0


def _write(made: Rebuilt, out: Path, dialect: str | None, dtype: str) -> None:
    single = out.suffix == ".safetensors"
    dialect = dialect or ("diffusers" if single else "peft")
    if single == (dialect == "peft"):
        kind = "a folder or a .zip" if dialect == "peft" else "a .safetensors"
        raise InvalidRequest(f"{dialect} is written as {kind}; {out.name} is neither.")
    if single:
        recipe = json.dumps(made.recipe.to_dict())
        export(made.adapter, dialect, out, {"recipe": recipe}, dtype)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    parents = [Parent(name, adapter) for name, adapter in made.sources.items()]
    with TemporaryDirectory(dir=out.parent) as scratch:
        home = write_peft(made.adapter, Path(scratch) / out.stem, made.recipe, parents, dtype=dtype)
        if out.suffix == ".zip":
            zipped(home, out)
        else:
            shutil.move(home, out)


def _tell(made: Rebuilt, out: Path, notes: list[str], as_json: bool) -> None:
    said: dict[str, Any] = {
        "out": str(out),
        "recipe": made.recipe.id,
        "sha256": made.adapter.id,
        "state": made.replayed.state,
        "difference": made.replayed.difference,
        "tolerance": TOLERANCE,
        "notes": [*notes, *made.notes],
    }
    if as_json:
        print(json.dumps(said))
        return
    for note in said["notes"]:
        print(note, file=sys.stderr)
    print(f"{out}: {_verdict(made)}")


def _verdict(made: Rebuilt) -> str:
    replayed = made.replayed
    if replayed.state == "identical":
        return "identical to what the recipe tells of, digest by digest."
    if replayed.state == "within tolerance":
        return (
            f"the same as the recipe tells of to {replayed.difference:.1e} of its size "
            f"(allowed: {TOLERANCE:g})."
        )
    return "composed. The recipe tells of no result, so there was nothing to compare it with."
