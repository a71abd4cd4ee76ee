"""Reading NumPy's .npz, which MLX writes, without trusting it: no pickles, caps on names, shapes
and sizes, and every byte counted while it is inflated."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.header import Header, TensorInfo, check_values
from lora_studio.limits import limits
from lora_studio.refusals import Refusal

MAX_ARRAY_HEADER = 4096
_END = ".npy"
_MAGIC = b"\x93NUMPY"
_CHUNK = 1 << 20
_TYPES = {"<f2": "F16", "<f4": "F32", "<f8": "F64", "<V2": "BF16", "|V2": "BF16"}
"""MLX writes bfloat16, which NumPy lacks, as two bytes of no type."""


def is_npz(path: Path) -> bool:
    """Whether the file at `path` is a zip from its first byte on, of arrays and nothing else."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # zipfile finds a zip behind anything
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return False
    return bool(names) and all(name.endswith(_END) for name in names)


def read_header(path: Path) -> Header:
    """Names, types and shapes of the arrays; spans are sizes only and `metadata` is empty.

    Raises:
        InvalidAdapter: not such a zip, a pickle inside, or beyond a cap.
    """
    with _open(path) as archive:
        tensors = {}
        for entry in _entries(archive):
            with archive.open(entry) as file:
                tensors[_name(entry)] = _array_header(entry, file)[0]
    return Header(tensors, {}, 0)


def iterate_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) in name order; raises InvalidAdapter on NaN or infinity."""
    with _open(path) as archive:
        for entry in sorted(_entries(archive), key=_name):
            with archive.open(entry) as file:
                info, fortran = _array_header(entry, file)
                raw = _read(file, entry, info.end)
            order = "F" if fortran else "C"
            array = _decode(raw, info.dtype).reshape(info.shape, order=order)
            check_values(_name(entry), array, limits().magnitude)
            yield _name(entry), np.ascontiguousarray(array)


def _bad(message: str, refusal: Refusal) -> InvalidAdapter:
    return InvalidAdapter(message, refusal)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _bad(f"The .npz is damaged ({str(error)[:200]}). Save it again.", "zip") from error


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    caps = limits()
    if len(entries) > caps.tensors:
        raise _bad(f"The .npz holds {len(entries)} arrays; at most {caps.tensors}.", "header-caps")
    if sum(entry.file_size for entry in entries) > 8 * caps.values:
        raise _bad(f"The .npz inflates to over {caps.values >> 17} MiB of arrays.", "zip-ratio")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise _bad("The .npz names an array twice.", "zip-names")
    for entry in entries:
        name = entry.filename
        if not name.endswith(_END) or len(name) > caps.name_bytes or not name.isprintable():
            raise _bad(f"The .npz holds something that is no array: {name[:80]!r}.", "zip-names")
        if entry.flag_bits & 0x1:
            raise _bad("The .npz is encrypted; upload it without a password.", "zip-kind")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad("The .npz is packed in an unusual way; save it with mx.savez.", "zip-kind")
    return entries


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(_END)


def _array_header(entry: zipfile.ZipInfo, file: IO[bytes]) -> tuple[TensorInfo, bool]:
    """(type, shape and size in bytes, whether the order is Fortran's); `file` stands at the data.

    The layout is NumPy's: magic, version, length, then a Python literal of three known fields.
    """

    def bad(why: str, refusal: Refusal = "header") -> InvalidAdapter:
        return _bad(f"Array '{_name(entry)[:80]}' in the .npz {why}.", refusal)

    caps = limits()

    try:
        lead = file.read(8)
        if lead[:6] != _MAGIC or lead[6] not in (1, 2, 3):
            raise bad("does not begin as NumPy's arrays do")
        length = int.from_bytes(file.read(2 if lead[6] == 1 else 4), "little")
        if length > MAX_ARRAY_HEADER:
            raise bad("has an over-long header")
        fields = ast.literal_eval(file.read(length).decode("latin-1").strip())
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, SyntaxError, MemoryError) as error:
        raise bad(f"has a damaged header ({type(error).__name__})") from error
    except RecursionError as error:
        raise bad("has a damaged header") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise bad("has a header with other fields than NumPy writes")
    dtype = _TYPES.get(fields["descr"]) if isinstance(fields["descr"], str) else None
    if dtype is None:
        raise bad("is no array of plain numbers (objects are pickles, never opened)", "pickle")
    shape = fields["shape"]
    if not isinstance(shape, tuple) or len(shape) > caps.dims:
        raise bad(f"has no shape of at most {caps.dims} dimensions", "tensor-shapes")
    if not all(type(n) is int and 0 < n <= caps.dim for n in shape):
        raise bad(f"has a dimension outside 1..{caps.dim}", "tensor-shapes")
    size = prod(shape) * np.dtype("<f2" if dtype == "BF16" else fields["descr"]).itemsize
    if entry.file_size != size + length + (10 if lead[6] == 1 else 12):
        raise bad("has a size that does not match its shape", "tensor-spans")
    return TensorInfo(dtype, shape, 0, size), fields["fortran_order"] is True


def _read(file: IO[bytes], entry: zipfile.ZipInfo, size: int) -> bytes:
    blocks, left = [], size
    try:
        while left and (block := file.read(min(left, _CHUNK))):
            blocks.append(block)
            left -= len(block)
        longer = bool(file.read(1))
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise _bad(f"The .npz is damaged at '{_name(entry)[:80]}'.", "zip") from error
    if left or longer:
        text = f"'{_name(entry)[:80]}' is shorter or longer than its header says."
        raise _bad(text, "tensor-spans")
    return b"".join(blocks)


def _decode(raw: bytes, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    width = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]
    return np.frombuffer(raw, width).astype(np.float32)
