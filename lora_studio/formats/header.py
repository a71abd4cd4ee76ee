"""Reading safetensors without trusting them: our own header check with caps, then plain numpy.

The layout is that of the safetensors specification: 8 bytes little-endian header length, a JSON
header, then the tensor bytes without gaps. Nothing here executes or allocates on a file's word.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.errors import InvalidAdapter

MAX_HEADER = 8 * 1024 * 1024
MAX_TENSORS = 65_536
MAX_NAME = 256
MAX_DIMS = 5
MAX_DIM = 1 << 20

_WIDTH = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
_NUMPY |= {"I8": "<i1", "U8": "<u1", "BOOL": "<u1"}


@dataclass(frozen=True)
class TensorInfo:
    """One entry of a header: dtype name, shape, and byte span after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A checked header. `offset` is where tensor bytes begin in the file."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    offset: int


def read_header(path: Path) -> Header:
    """Parses and checks the header of a safetensors file.

    Raises:
        InvalidAdapter: not safetensors, or beyond a cap; the text names what to do instead.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        lead = file.read(8)
        _refuse_other_kinds(lead)
        length = int.from_bytes(lead, "little")
        if len(lead) < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise InvalidAdapter(
                "This is not a safetensors file: its header length does not fit the file. "
                "The download may be incomplete; fetch it again."
            )
        raw = file.read(length)
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"The safetensors header is not valid JSON ({error}).") from error
    if not isinstance(data, dict):
        raise InvalidAdapter("The safetensors header is not a JSON object.")
    metadata = data.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise InvalidAdapter("The safetensors metadata is not a JSON object.")
    if len(data) > MAX_TENSORS:
        raise InvalidAdapter(f"The file names {len(data)} tensors; at most {MAX_TENSORS} are read.")
    tensors = {name: _tensor(name, entry) for name, entry in data.items()}
    _check_cover(tensors, size - 8 - length)
    return Header(tensors, {str(k): str(v) for k, v in metadata.items()}, 8 + length)


def iterate_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) in name order; raises InvalidAdapter on NaN or infinity."""
    header = read_header(path)
    if not header.tensors:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for name in sorted(header.tensors):
            info = header.tensors[name]
            raw = view[header.offset + info.start : header.offset + info.end]
            array = _decode(raw, info.dtype).reshape(info.shape)
            if not np.isfinite(array).all():
                raise InvalidAdapter(
                    f"'{name}' holds NaN or infinity. The training run that saved it has "
                    "probably diverged; upload an earlier checkpoint."
                )
            yield name, array


def _refuse_other_kinds(lead: bytes) -> None:
    if lead[:2] in (b"PK", b"\x80\x02", b"\x80\x04") or lead[:4] == b"\x80\x03}q":
        raise InvalidAdapter(
            "This is a pickle or zip, not safetensors. Pickle files can run code and are never "
            "opened here; convert it with safetensors.torch.save_file and upload the result."
        )
    if lead.startswith(b"version "):
        raise InvalidAdapter(
            "This is a git-LFS pointer, not the weights. Run `git lfs pull` and upload the file."
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidAdapter("The safetensors header names a tensor twice.")
    return found


def _tensor(name: str, entry: Any) -> TensorInfo:
    def bad(why: str) -> InvalidAdapter:
        return InvalidAdapter(f"Tensor '{name[:80]}' in the header {why}.")

    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise bad("has an empty, over-long or unprintable name")
    if not isinstance(entry, dict) or entry.get("dtype") not in _WIDTH:
        raise bad("has an unknown dtype")
    shape, span = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise bad(f"has no shape of at most {MAX_DIMS} dimensions")
    if not all(type(n) is int and 0 < n <= MAX_DIM for n in shape):
        raise bad(f"has a dimension outside 1..{MAX_DIM}")
    if not isinstance(span, list) or len(span) != 2 or not all(type(n) is int for n in span):
        raise bad("has no byte span")
    if span[1] - span[0] != prod(shape) * _WIDTH[entry["dtype"]] or span[0] < 0:
        raise bad("has a byte span that does not match its shape")
    return TensorInfo(entry["dtype"], tuple(shape), span[0], span[1])


def _check_cover(tensors: dict[str, TensorInfo], size: int) -> None:
    position = 0
    for info in sorted(tensors.values(), key=lambda t: t.start):
        if info.start != position:
            raise InvalidAdapter("The tensors in this file overlap or leave gaps; it is damaged.")
        position = info.end
    if position != size:
        raise InvalidAdapter("The file is longer or shorter than its header says; it is damaged.")


def _decode(raw: bytes, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return wide.view(np.float32)
    if dtype.startswith("F8"):
        return _float8_table(dtype)[np.frombuffer(raw, np.uint8)]
    return np.frombuffer(raw, _NUMPY[dtype]).astype(np.float32)


def _float8_table(dtype: str) -> np.ndarray:
    """(256,) float32 value of each byte; E4M3 has NaN at 0x7f, no infinity; E5M2 is IEEE-like."""
    exponent_bits, bias = (4, 7) if dtype == "F8_E4M3" else (5, 15)
    mantissa_bits = 7 - exponent_bits
    code = np.arange(256)
    sign = np.where(code & 0x80, -1.0, 1.0)
    exponent = (code >> mantissa_bits) & (2**exponent_bits - 1)
    fraction = (code & (2**mantissa_bits - 1)) / 2**mantissa_bits
    value = np.where(
        exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias)
    )
    if dtype == "F8_E4M3":
        value[(code & 0x7F) == 0x7F] = np.nan
    else:
        value[(exponent == 31) & (fraction == 0)] = np.inf
        value[(exponent == 31) & (fraction > 0)] = np.nan
    return (sign * value).astype(np.float32)
