"""Finding the parts of an uploaded adapter: weights, configuration, card, picture, test prompts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import archive, card, pickles, routers, thumbnail
from lora_studio.formats.cloneofsimo import NAME as CLONEOFSIMO
from lora_studio.formats.config import (
    CONFIG,
    AdapterConfig,
    Scales,
    read_config,
    read_header_config,
)
from lora_studio.formats.dialect import Place
from lora_studio.formats.facts import fill_card
from lora_studio.formats.mlx import NAME as MLX
from lora_studio.formats.mlx import SCALE
from lora_studio.formats.npz import is_npz
from lora_studio.formats.peft import WEIGHTS
from lora_studio.formats.peft_tuner import NAME as PEFT_TUNER
from lora_studio.formats.reading import pick, read_factors
from lora_studio.formats.setting import Shapes
from lora_studio.formats.weights import iterate_tensors, read_header

MAX_BYTES = 2 * 1024**3
MAX_TESTS = 1000
NAMELESS = ("adapter_model", "pytorch_lora_weights", "adapters", "upload")
USUAL = (WEIGHTS, "adapters.safetensors", "adapters.npz")
"""Files that hold an adapter even where others, such as earlier checkpoints, lie beside them."""

ShapesOf = Callable[[str], Shapes]
"""Name of a base model -> sizes of its weights, {} if it is not here."""

TestPrompt = dict[str, str]


@dataclass(frozen=True)
class Loaded:
    """An adapter as read from a file, and what lay beside it.

    Args:
        report: what should be said about the file, as sentences.
        thumbnail: PNG, JPEG or WebP bytes as uploaded, never to be shown before they are redrawn.
        metadata: the header's text fields.
        ranks: the rank by which the file's alpha was divided, of each module that has one.
    """

    adapter: Adapter
    tests: list[TestPrompt] = field(default_factory=list)
    report: list[str] = field(default_factory=list)
    thumbnail: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)


def load_adapter(path: Path | str, shapes: ShapesOf | None = None) -> Adapter:
    """Reads a folder or zip with one .safetensors or .npz file, or that file alone, in any dialect.

    Args:
        shapes: looks up the sizes of a base model's weights, which files of some of PEFT's other
            methods leave out.

    Raises:
        InvalidAdapter: with the reason and what to do next.
    """
    return load(path, shapes=shapes).adapter


def load(path: Path | str, max_bytes: int = MAX_BYTES, shapes: ShapesOf | None = None) -> Loaded:
    """Like `load_adapter`, with test prompts, picture and a report for people."""
    path = Path(path)
    if not path.exists():
        raise InvalidAdapter(f"There is no file or folder at {path}.")
    if path.is_dir():
        return _load_folder(path, shapes)
    with path.open("rb") as file:
        lead = file.read(4)
    if path.stat().st_size > max_bytes:
        raise InvalidAdapter(f"The file is larger than {max_bytes >> 20} MiB.", "too-large")
    with tempfile.TemporaryDirectory() as scratch:
        if lead == b"PK\x03\x04" and archive.is_pickle(path):
            plain = pickles.convert(path, Path(scratch) / f"{path.stem}.safetensors")
            return _load_weights(plain, None, shapes)
        if lead == b"PK\x03\x04" and not is_npz(path):
            folder = archive.unpack(path, Path(scratch) / path.stem, max_bytes)
            return _load_folder(folder, shapes)
    return _load_weights(path, path.parent if path.name in USUAL else None, shapes)


def _load_folder(folder: Path, shapes: ShapesOf | None) -> Loaded:
    weights = next((folder / name for name in USUAL if (folder / name).is_file()), None)
    if weights is None:
        candidates = sorted(p for p in folder.iterdir() if p.suffix in archive.WEIGHTS)
        pickled = [p for p in sorted(folder.iterdir()) if p.suffix in pickles.SUFFIXES]
        if not candidates and len(pickled) == 1:
            return _load_pickle(pickled[0], folder, shapes)
        if len(candidates) != 1:
            raise InvalidAdapter(
                f"{folder.name} holds {len(candidates)} .safetensors files; expected one.",
                "zip-weights",
            )
        weights = candidates[0]
    return _load_weights(weights, folder, shapes)


def _load_pickle(path: Path, folder: Path, shapes: ShapesOf | None) -> Loaded:
    with tempfile.TemporaryDirectory() as scratch:
        plain = pickles.convert(path, Path(scratch) / f"{path.stem}.safetensors")
        return _load_weights(plain, folder, shapes)


def _load_weights(weights: Path, folder: Path | None, shapes: ShapesOf | None) -> Loaded:
    header = read_header(weights)
    routers.refuse(header.tensors)
    config = _config(folder)
    dialect = pick(header.tensors, header.metadata)
    _refuse_other_kind(config, dialect.NAME)
    scales = Scales(config, read_header_config(header.metadata))
    places = dialect.locate(header.tensors)
    options = config.options if config else {}
    base = shapes(config.base_model if config else "") if shapes else {}
    reading = read_factors(iterate_tensors(weights), places, scales, dialect.NAME, options, base)
    report = [*reading.report, *_assumed(dialect.NAME, config, scales, reading.ranks, places)]
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
        reading.ranks,
    )


def _assumed(
    dialect: str,
    config: AdapterConfig | None,
    scales: Scales,
    ranks: Mapping[str, int],
    places: Mapping[str, Place | None],
) -> list[str]:
    """What the scaling was taken to be where the file does not say it."""
    if dialect == MLX and (config is None or "scale" not in config.options):
        return [f"No {CONFIG} says the scale: {SCALE:g} is taken, which is what mlx-lm uses."]
    plain = dialect not in (MLX, CLONEOFSIMO) and bool(ranks)
    named = any(place and place.role == "alpha" for place in places.values())
    if scales.known or named or not plain:
        return []
    lacking = f"No {CONFIG}" if dialect == "peft" else "The file names no alpha"
    return [f"{lacking}: alpha is taken as equal to the rank (scaling 1)."]


def _refuse_other_kind(config: AdapterConfig | None, dialect: str) -> None:
    """Raises InvalidAdapter where the configuration is that of another kind of file."""
    kind = config.kind if config else ""
    if kind and dialect != (MLX if kind == "MLX" else PEFT_TUNER):
        raise InvalidAdapter(
            f"{CONFIG} is that of {kind}, but the tensors are none of {kind}. Upload the two files "
            "that were saved together.",
            "config-values",
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
