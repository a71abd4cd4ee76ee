"""Honest adapters in every dialect that is read, in every float type, in folders, zips and bare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.hostile.archives import zipped
from tests.hostile.cases import CONFIG, WEIGHTS, Case
from tests.reference_deltas import fill

FIXTURES = sorted((Path(__file__).parent.parent / "state_dicts").glob("*.json"))
DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float64,
)


def honest(seed: int, count: int) -> Iterator[Case]:
    """`count` adapters: fixtures, types and packings in turn."""
    for i in range(count):
        fixture = json.loads(FIXTURES[i % len(FIXTURES)].read_text(encoding="utf-8"))
        dtype = DTYPES[(i // len(FIXTURES)) % len(DTYPES)]

        def write(
            folder: Path, fixture: dict = fixture, dtype: torch.dtype = dtype, i: int = i
        ) -> Path:
            tensors = {
                name: torch.from_numpy(np.ascontiguousarray(value)).to(dtype).reshape(value.shape)
                for name, value in fill(fixture, seed + i).items()
            }
            home = folder / "mine"
            home.mkdir()
            save_file(tensors, home / WEIGHTS, fixture.get("metadata", {"format": "pt"}))
            if "config" in fixture:
                (home / CONFIG).write_text(json.dumps(fixture["config"]), encoding="utf-8")
            return [home, zipped(home, folder / "mine.zip")][i % 2]

        yield Case(f"honest/{FIXTURES[i % len(FIXTURES)].stem}-{str(dtype)[6:]}", write)
