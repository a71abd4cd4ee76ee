"""The form the studio stores: folded float32 factors, sorted names, one layout for every source.

It is safetensors, written module by module: the header, which lies before the numbers but is only
known after them, gets a room that follows from the modules' names and is filled up with spaces.
Reading maps the file, so an adapter takes memory only where somebody looks at it.
"""

from __future__ import annotations

import io
import json
import mmap
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.errors import InvalidAdapter
from lora_studio.formats.header import read_header
from lora_studio.limits import OURS, limited

PARTS = ("A", "B", "magnitude")
_FIELD = "lora_studio"
_ROOM = 640
"""Bytes of header for a module beside its name, which stands there four times: three tensors with
numbers of up to 14 digits, and what kind of layer it is."""


def dump(adapter: Adapter) -> bytes:
    """safetensors bytes of `adapter`: `<module>.A` (r, d_in), `<module>.B` (d_out, r), scaling 1.

    Equal adapters give equal bytes. The card is not part of it.
    """
    file = io.BytesIO()
    _stream(adapter, file, check=False)
    return file.getvalue()


def write(adapter: Adapter, path: Path | str) -> None:
    """Writes what `dump` gives to `path`, one module in memory at a time; the file is whole or
    absent, whatever is raised meanwhile.

    Raises:
        InvalidAdapter: a number is not finite. OSError: there is no room.
    """
    path = Path(path)
    part = path.with_name(f"{uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            _stream(adapter, file, check=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path | str, card: AdapterCard | None = None) -> Adapter:
    """The adapter stored at `path` by `write`; `card` replaces the bare one.

    Its factors are read-only views of the mapped file, which must not change under them. Their
    numbers are not looked at.

    Raises:
        InvalidAdapter: the file is damaged or was not written by `write`.
    """
    path = Path(path)
    with limited(OURS):
        header = read_header(path)
    if _FIELD not in header.metadata:
        raise InvalidAdapter(f"{path.name} was not written by LoRA Studio.")
    about = json.loads(header.metadata[_FIELD])
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def tensor(name: str) -> np.ndarray | None:
        info = header.tensors.get(name)
        if info is None:
            return None
        count = (info.end - info.start) // 4
        return np.frombuffer(view, "<f4", count, header.offset + info.start).reshape(info.shape)

    factors: dict[str, LoraFactors] = {}
    for name, facts in about["modules"].items():
        a, b, magnitude = (tensor(f"{name}.{part}") for part in PARTS)
        if a is None or b is None:
            raise InvalidAdapter(f"{path.name} lacks the factors of '{name}'.")
        kernel = tuple(facts["kernel"]) if facts["kernel"] else None
        factors[name] = LoraFactors(a, b, 1.0, facts["component"], facts["kind"], kernel, magnitude)
    return Adapter(factors, card or AdapterCard(base_model=about["base_model"]))


def _stream(adapter: Adapter, file: BinaryIO, *, check: bool) -> None:
    base = adapter.card.base_model
    room = 512 + 2 * _length(base) + sum(_ROOM + 4 * _length(name) for name in adapter.factors)
    room += -room % 64  # the numbers begin on a line of the cache
    file.seek(8 + room)
    entries: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    position = 0
    for name, module in adapter.modules():
        folded = module.folded()
        kernel = list(module.kernel) if module.kernel else None
        facts[name] = {"component": module.component, "kind": module.kind, "kernel": kernel}
        for part in PARTS:
            values = getattr(folded, part)
            if values is None:
                continue
            array = np.ascontiguousarray(values, dtype="<f4")
            if check:
                _check_finite(name, array)
            file.write(array.data)
            span = [position, position := position + array.nbytes]
            shape = list(array.shape)
            entries[f"{name}.{part}"] = {"dtype": "F32", "shape": shape, "data_offsets": span}
    about = {"version": 1, "base_model": base, "modules": facts}
    entries["__metadata__"] = {_FIELD: json.dumps(about, sort_keys=True)}
    header = json.dumps(entries, sort_keys=True).encode()
    if len(header) > room:
        raise ValueError(f"a header of {len(header)} bytes does not fit its room of {room}")
    file.seek(0)
    file.write(room.to_bytes(8, "little") + header.ljust(room))


def _length(text: str) -> int:
    """Bytes of a text as JSON inside JSON."""
    return len(json.dumps(json.dumps(text)))


def _check_finite(name: str, array: np.ndarray) -> None:
    if not (np.isfinite(array.max(initial=0.0)) and np.isfinite(array.min(initial=0.0))):
        raise InvalidAdapter(
            f"The numbers of '{name}' do not fit into float32. Use smaller weights.", "not-finite"
        )
