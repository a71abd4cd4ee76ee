"""Finding the parts of an uploaded adapter: weights, configuration, card, picture, test prompts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import archive, card, pickles, thumbnail
from lora_studio.formats.config import (
    CONFIG,
    AdapterConfig,
    Scales,
    read_config,
    read_header_config,
)
from lora_studio.formats.facts import fill_card
from lora_studio.formats.header import check_agreement, iterate_tensors, read_header
from lora_studio.formats.peft import WEIGHTS
from lora_studio.formats.reading import pick, read_factors

MAX_BYTES = 2 * 1024**3
MAX_TESTS = 1000
NAMELESS = ("adapter_model", "pytorch_lora_weights", "upload")

TestPrompt = dict[str, str]


@dataclass(frozen=True)
class Loaded:
    """An adapter as read from a file, and what lay beside it.

    Args:
        report: what should be said about the file, as sentences.
        thumbnail: PNG, JPEG or WebP bytes as uploaded, never to be shown before they are redrawn.
        metadata: the header's text fields.
    """

    adapter: Adapter
    tests: list[TestPrompt] = field(default_factory=list)
    report: list[str] = field(default_factory=list)
    thumbnail: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_adapter(path: Path | str) -> Adapter:
    """Reads a folder or zip with one .safetensors file, or that file alone, in any dialect.

    Raises:
        InvalidAdapter: with the reason and what to do next.
    """
    return load(path).adapter


def load(path: Path | str, max_bytes: int = MAX_BYTES) -> Loaded:
    """Like `load_adapter`, with test prompts, picture and a report for people."""
    path = Path(path)
    if not path.exists():
        raise InvalidAdapter(f"There is no file or folder at {path}.")
    if path.is_dir():
        return _load_folder(path)
    with path.open("rb") as file:
        lead = file.read(4)
    if path.stat().st_size > max_bytes:
        raise InvalidAdapter(f"The file is larger than {max_bytes >> 20} MiB.", "too-large")
    with tempfile.TemporaryDirectory() as scratch:
        if lead == b"PK\x03\x04" and archive.is_pickle(path):
            plain = pickles.convert(path, Path(scratch) / f"{path.stem}.safetensors")
            return _load_weights(plain, None)
        if lead == b"PK\x03\x04":
            folder = archive.unpack(path, Path(scratch) / path.stem, max_bytes)
            return _load_folder(folder)
    return _load_weights(path, path.parent if path.name == WEIGHTS else None)


def _load_folder(folder: Path) -> Loaded:
    weights = folder / WEIGHTS
    if not weights.is_file():
        candidates = sorted(folder.glob("*.safetensors"))
        pickled = [p for p in sorted(folder.iterdir()) if p.suffix in pickles.SUFFIXES]
        if not candidates and len(pickled) == 1:
            return _load_pickle(pickled[0], folder)
        if len(candidates) != 1:
            raise InvalidAdapter(
                f"{folder.name} holds {len(candidates)} .safetensors files; expected one.",
                "zip-weights",
            )
        weights = candidates[0]
    return _load_weights(weights, folder)


def _load_pickle(path: Path, folder: Path) -> Loaded:
    with tempfile.TemporaryDirectory() as scratch:
        plain = pickles.convert(path, Path(scratch) / f"{path.stem}.safetensors")
        return _load_weights(plain, folder)


def _load_weights(weights: Path, folder: Path | None) -> Loaded:
    header = read_header(weights)
    check_agreement(weights, header)
    dialect = pick(header.tensors, header.metadata)
    config = _config(folder)
    scales = Scales(config, read_header_config(header.metadata))
    places = dialect.locate(header.tensors)
    reading = read_factors(iterate_tensors(weights), places, scales, dialect.NAME)
    report = list(reading.report)
    lacking = f"No {CONFIG}" if dialect.NAME == "peft" else "The file names no alpha"
    if not scales.known and not any(place and place.role == "alpha" for place in places.values()):
        report.append(f"{lacking}: alpha is taken as equal to the rank (scaling 1).")
    found = fill_card(_card(folder), header.metadata)
    found = replace(
        found,
        base_model=(config.base_model if config else "") or found.base_model,
        title=found.title or _name(weights, folder),
        source_format=reading.source_format,
    )
    return Loaded(
        Adapter(reading.factors, found),
        _tests(folder / "test.jsonl") if folder else [],
        report,
        thumbnail.find(folder) if folder else None,
        header.metadata,
    )


def _config(folder: Path | None) -> AdapterConfig | None:
    file = folder / CONFIG if folder else None
    if not file or not file.is_file():
        return None
    return read_config(file.read_text(encoding="utf-8", errors="replace"))


def _card(folder: Path | None) -> AdapterCard:
    file = folder / "README.md" if folder else None
    if not file or not file.is_file():
        return AdapterCard()
    return card.parse(file.read_text(encoding="utf-8", errors="replace"))


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
        except (ValueError, RecursionError):
            continue
        if isinstance(item, dict) and {"prompt", "target"} <= item.keys():
            found.append({"prompt": str(item["prompt"]), "target": str(item["target"])})
    return found
