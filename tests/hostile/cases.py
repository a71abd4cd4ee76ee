"""What a case of the hostile corpus is, and the honest files that it starts from."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Rng = np.random.Generator
Header = dict[str, Any]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Case:
    """One file and what must become of it.

    Args:
        write: puts the file (or folder) into an empty folder and returns its path.
        refusals: codes it may be refused with; empty for files that must be accepted.
        either: whether it may as well be accepted, as the plain adapter it contains.
        max_bytes: the upload limit it meets.
    """

    name: str
    write: Callable[[Path], Path]
    refusals: frozenset[str] = field(default_factory=frozenset)
    either: bool = False
    max_bytes: int = 64 << 20


def plain(rng: Rng, rank: int = 4, layers: int = 2) -> dict[str, np.ndarray]:
    """The tensors of a small PEFT adapter, by name."""
    found: dict[str, np.ndarray] = {}
    for layer in range(layers):
        for leaf in ("q_proj", "v_proj"):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{leaf}"
            found[f"{stem}.lora_A.weight"] = rng.normal(size=(rank, 24)).astype(np.float32)
            found[f"{stem}.lora_B.weight"] = rng.normal(size=(20, rank)).astype(np.float32)
    return found


def header_of(tensors: Mapping[str, np.ndarray]) -> Header:
    """The header that safetensors would write for float32 tensors, as a dict to be damaged."""
    header: Header = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        span = [position, position + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": span}
        position = span[1]
    return header


def body_of(tensors: Mapping[str, np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(t).tobytes() for t in tensors.values())


def file_of(header: bytes | Header, body: bytes, length: int | None = None) -> bytes:
    """A safetensors file of these parts; `length` lies about that of the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def single(name: str, data: Callable[[], bytes], file: str = "x.safetensors", **facts: Any) -> Case:
    """A case that is one file of bytes."""

    def write(folder: Path) -> Path:
        path = folder / file
        path.write_bytes(data())
        return path

    return Case(name, write, **facts)


def folder_of(folder: Path, tensors: Mapping[str, np.ndarray], config: str | None) -> Path:
    """A PEFT folder with this text as its configuration."""
    home = folder / "mine"
    home.mkdir()
    save_file(dict(tensors), home / WEIGHTS)
    if config is not None:
        (home / CONFIG).write_text(config, encoding="utf-8")
    return home


def some(rng: Rng, values: list[Any]) -> Any:
    return values[int(rng.integers(len(values)))]
