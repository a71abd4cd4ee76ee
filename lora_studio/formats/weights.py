"""The two containers that weights come in: safetensors, and the .npz of MLX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lora_studio.formats import header, npz
from lora_studio.formats.header import Header

ENDINGS = (".safetensors", ".npz")


def read_header(path: Path) -> Header:
    """Names, types and shapes of the tensors in a file; raises InvalidAdapter."""
    return npz.read_header(path) if npz.is_npz(path) else header.read_header(path)


def iterate_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) in name order; raises InvalidAdapter on NaN or infinity."""
    return npz.iterate_tensors(path) if npz.is_npz(path) else header.iterate_tensors(path)
