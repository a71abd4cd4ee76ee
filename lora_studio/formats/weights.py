"""The two containers that weights come in: safetensors, and the .npz of MLX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lora_studio.formats import header, npz
from lora_studio.formats.header import Header


def read_header(path: Path) -> Header:
    """Names, types and shapes of the tensors in a file.

    Raises:
        InvalidAdapter: it is neither, beyond a cap, or another library reads it differently.
    """
    if npz.is_npz(path):
        return npz.read_header(path)
    found = header.read_header(path)
    header.check_agreement(path, found)
    return found


def iterate_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) in name order; raises InvalidAdapter on NaN or infinity."""
    return npz.iterate_tensors(path) if npz.is_npz(path) else header.iterate_tensors(path)
