"""Reading safetensors without trusting them: our own header check with caps, then plain numpy.

The layout is that of the safetensors specification: 8 bytes little-endian header length, a JSON
header, then the tensor bytes without gaps. Nothing here executes or allocates on a file's word.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.pickles import HINT
from lora_studio.limits import Limits, limits
from lora_studio.refusals import Refusal

_NAME = re.compile(r"[A-Za-z0-9_.:/* -]+|<[A-Za-z0-9_.:-]+>")
"""Names of modules, or a word in angle brackets whose embedding lies beside a LoRA."""
_BLOCK = 1 << 24
"""Bytes of a tensor that are looked at together."""

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
    caps = limits()
    size = path.stat().st_size
    with path.open("rb") as file:
        lead = file.read(16)
        length = int.from_bytes(lead[:8], "little")
        if not 2 <= length <= size - 8 or lead[8:9] != b"{":
            refuse_other_kinds(lead)
            raise InvalidAdapter(
                "This is not a safetensors file: its header length does not fit the file, or no "
                "header follows. The download may be incomplete; fetch it again.",
                "not-safetensors",
            )
        file.seek(8)
        if length > caps.header_bytes:
            raise InvalidAdapter(
                f"The safetensors header is {length >> 20} MiB long; an adapter's is below "
                f"{caps.header_bytes >> 20} MiB.",
                "header-caps",
            )
        raw = file.read(length)
    data = _object(raw)
    metadata = _metadata(data.pop("__metadata__", {}), caps)
    if len(data) > caps.tensors:
        raise InvalidAdapter(
            f"The file names {len(data)} tensors; at most {caps.tensors} are read.", "header-caps"
        )
    tensors = {name: _tensor(name, entry, caps) for name, entry in data.items()}
    _check_cover(tensors, size - 8 - length)
    return Header(tensors, metadata, 8 + length)


def check_agreement(path: Path, header: Header) -> None:
    """Raises InvalidAdapter if the safetensors library reads other tensors from the file."""
    from safetensors import SafetensorError, safe_open

    ours = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            theirs = {n: (s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
            texts = file.metadata() or {}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise InvalidAdapter(
            f"The safetensors library refuses the file ({error}). Save it again.",
            "parsers-disagree",
        ) from error
    if ours != theirs or texts != header.metadata:
        raise InvalidAdapter(
            "The safetensors library reads the header differently. Save the file again with it.",
            "parsers-disagree",
        )


def iterate_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) in name order.

    Raises:
        InvalidAdapter: NaN, infinity, or values beyond `limits().magnitude`.
    """
    header = read_header(path)
    if not header.tensors:
        return
    cap = limits().magnitude
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for name in sorted(header.tensors):
            info = header.tensors[name]
            raw = view[header.offset + info.start : header.offset + info.end]
            array = _decode(raw, info.dtype).reshape(info.shape)
            check_values(name, array, cap)
            yield name, array


def check_values(name: str, array: np.ndarray, cap: float) -> None:
    """Raises InvalidAdapter on NaN, infinity, or values beyond `cap`; places may be any number."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        largest = max(float(block.max()), -float(block.min()))
        if not isfinite(largest):
            raise InvalidAdapter(
                f"'{name}' holds NaN or infinity. The training run that saved it has "
                "probably diverged; upload an earlier checkpoint.",
                "not-finite",
            )
        if largest > cap and not name.endswith(("alpha", "_indices")):
            raise InvalidAdapter(
                f"'{name}' holds values up to {largest:.3g}; adapters stay below {cap:g}. The "
                "training run has probably diverged; upload an earlier checkpoint.",
                "values",
            )


def refuse_other_kinds(lead: bytes) -> None:
    """Raises InvalidAdapter for first bytes that are a pickle, a zip, a pointer or a page."""
    if lead[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise InvalidAdapter(
            f"This is a pickle or a damaged zip, not safetensors. {HINT}", "pickle"
        )
    if lead.startswith(b"version "):
        raise InvalidAdapter(
            "This is a git-LFS pointer, not the weights. Run `git lfs pull` and upload the file.",
            "not-the-file",
        )
    if lead.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<!--")):
        raise InvalidAdapter(
            "This is a web page, not the weights. Use the site's own download link.",
            "not-the-file",
        )
    if not lead:
        raise InvalidAdapter("The file is empty. Fetch it again.", "not-the-file")


def _object(raw: bytes) -> dict[str, Any]:
    """The header's JSON, as strictly as the safetensors library reads it."""
    try:
        data = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_whole,
        )
    except InvalidAdapter:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(
            f"The safetensors header is not valid JSON ({str(error)[:200]}).", "header"
        ) from error
    if not isinstance(data, dict):
        raise InvalidAdapter("The safetensors header is not a JSON object.", "header")
    return data


def _constant(name: str) -> float:
    raise InvalidAdapter(f"The safetensors header holds {name}, which JSON has not.", "header")


def _whole(digits: str) -> int:
    if digits == "-0":  # a fraction to the safetensors library
        raise InvalidAdapter("The safetensors header holds -0.", "header")
    return int(digits)


def _metadata(data: Any, caps: Limits) -> dict[str, str]:
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise InvalidAdapter("The safetensors metadata is not an object of texts.", "header")
    if len(data) > caps.metadata_keys:
        raise InvalidAdapter(
            f"The header has {len(data)} text fields; at most {caps.metadata_keys} are read.",
            "header-caps",
        )
    if sum(len(k) + len(v) for k, v in data.items()) > caps.metadata_bytes:
        raise InvalidAdapter(
            f"The header's text fields are over {caps.metadata_bytes >> 20} MiB.", "header-caps"
        )
    try:
        "".join([*data, *data.values()]).encode()
    except UnicodeEncodeError as error:  # an escape such as \ud800, which is no character
        raise InvalidAdapter(
            "A text field of the header holds half a character.", "header"
        ) from error
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidAdapter("The safetensors header names something twice.", "header")
    return found


def _tensor(name: str, entry: Any, caps: Limits) -> TensorInfo:
    def bad(why: str, refusal: Refusal) -> InvalidAdapter:
        return InvalidAdapter(f"Tensor {name[:80]!r} in the header {why}.", refusal)

    if len(name) > caps.name_bytes or not _NAME.fullmatch(name):
        raise bad("has a name that is empty, over-long or of unusual characters", "tensor-names")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise bad("has not the three fields dtype, shape and data_offsets", "header")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _WIDTH:
        raise bad("has a dtype that is not read", "tensor-shapes")
    if not isinstance(shape, list) or len(shape) > caps.dims:
        raise bad(f"has no shape of at most {caps.dims} dimensions", "tensor-shapes")
    if not all(type(n) is int and 0 < n <= caps.dim for n in shape):
        raise bad(f"has a dimension outside 1..{caps.dim}", "tensor-shapes")
    if not isinstance(span, list) or len(span) != 2 or not all(type(n) is int for n in span):
        raise bad("has no byte span", "tensor-spans")
    if span[1] - span[0] != prod(shape) * _WIDTH[dtype] or span[0] < 0:
        raise bad("has a byte span that does not match its shape", "tensor-spans")
    return TensorInfo(dtype, tuple(shape), span[0], span[1])


def _check_cover(tensors: dict[str, TensorInfo], size: int) -> None:
    position = 0
    for info in sorted(tensors.values(), key=lambda t: t.start):
        if info.start != position:
            raise InvalidAdapter(
                "The tensors in this file overlap or leave gaps; it is damaged.", "tensor-spans"
            )
        position = info.end
    if position != size:
        raise InvalidAdapter(
            "The file is longer or shorter than its header says; it is damaged. The download may "
            "be incomplete; fetch it again.",
            "tensor-spans",
        )


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
