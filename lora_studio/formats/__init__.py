"""Files in and out: any supported adapter file becomes an Adapter, any Adapter a PEFT folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import archive, card, peft
from lora_studio.formats.header import iterate_tensors, read_header

MAX_BYTES = 2 * 1024**3
MAX_TESTS = 1000
NAMELESS = ("adapter_model", "upload")

TestPrompt = dict[str, str]


@dataclass(frozen=True)
class Loaded:
    """An adapter as read from a file, its test prompts, and what should be said about the file."""

    adapter: Adapter
    tests: list[TestPrompt] = field(default_factory=list)
    report: list[str] = field(default_factory=list)


def load_adapter(path: Path | str) -> Adapter:
    """Reads a PEFT folder, a zip of one, or a bare .safetensors file.

    Raises:
        InvalidAdapter: with the reason and what to do next.
    """
    return load(path).adapter


def load(path: Path | str, max_bytes: int = MAX_BYTES) -> Loaded:
    """Like `load_adapter`, with test prompts and a report for people."""
    path = Path(path)
    if not path.exists():
        raise InvalidAdapter(f"There is no file or folder at {path}.")
    if path.is_dir():
        return _load_folder(path)
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
        with tempfile.TemporaryDirectory() as scratch:
            folder = archive.unpack(path, Path(scratch) / path.stem, max_bytes)
            return _load_folder(folder)
    return _load_weights(path, path.parent if path.name == peft.WEIGHTS else None)


def save_adapter(
    adapter: Adapter, folder: Path | str, extra: Mapping[str, str | bytes] | None = None
) -> Path:
    """Writes an ordinary PEFT folder that `PeftModel.from_pretrained` loads.

    Args:
        folder: created if missing; holds adapter_config.json, adapter_model.safetensors, README.md.
        extra: further files by name, such as a recipe.
    """
    folder = Path(folder)
    peft.save(adapter, folder)
    (folder / "README.md").write_text(card.render(adapter.card), encoding="utf-8")
    for name, content in (extra or {}).items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    return folder


def _load_folder(folder: Path) -> Loaded:
    weights = folder / peft.WEIGHTS
    if not weights.is_file():
        candidates = sorted(folder.glob("*.safetensors"))
        if len(candidates) != 1:
            pickles = [p.name for p in folder.glob("*.bin")]
            hint = (
                f" {pickles[0]} is a pickle and is never opened; convert it to safetensors first."
                if pickles
                else ""
            )
            raise InvalidAdapter(f"{folder.name} holds no {peft.WEIGHTS}.{hint}")
        weights = candidates[0]
    return _load_weights(weights, folder)


def _load_weights(weights: Path, folder: Path | None) -> Loaded:
    keys = read_header(weights).tensors
    if not peft.matches(keys):
        raise InvalidAdapter(
            "The tensor names are not PEFT LoRA's (…lora_A.weight / …lora_B.weight). "
            f"The file starts with '{next(iter(sorted(keys)), '')[:80]}'. Only PEFT files are read "
            "so far: save the adapter with PEFT's save_pretrained and upload that folder."
        )
    report: list[str] = []
    config_file = folder / peft.CONFIG if folder else None
    if config_file and config_file.is_file():
        config = peft.read_config(config_file.read_text(encoding="utf-8", errors="replace"))
    else:
        config = peft.PeftConfig()
        report.append("No adapter_config.json: alpha is taken as equal to the rank (scaling 1).")
    factors = peft.read_factors(iterate_tensors(weights), config)
    read_card = AdapterCard()
    if folder and (folder / "README.md").is_file():
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
        read_card = card.parse(text)
    read_card = replace(
        read_card,
        base_model=config.base_model or read_card.base_model,
        title=read_card.title or _name(weights, folder),
        source_format="peft",
    )
    tests = _tests(folder / "test.jsonl") if folder else []
    return Loaded(Adapter(factors, read_card), tests, report)


def _name(weights: Path, folder: Path | None) -> str:
    """A title from the file's or the folder's name; "" where neither says anything."""
    names = [weights.stem, folder.name if folder else ""]
    return next((name for name in names if name and name not in NAMELESS), "")


def _tests(path: Path) -> list[TestPrompt]:
    """Prompts and targets of a test.jsonl; lines that are not such pairs are left out."""
    if not path.is_file():
        return []
    found: list[TestPrompt] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:MAX_TESTS]:
        try:
            item = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(item, dict) and {"prompt", "target"} <= item.keys():
            found.append({"prompt": str(item["prompt"]), "target": str(item["target"])})
    return found
