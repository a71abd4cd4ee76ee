"""Hostile zips: names that leave, bombs, links, locks, and directories that do not match."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tests.hostile.cases import Case, Rng, plain, single, some

Build = Callable[[Rng, bytes], bytes]

NAMES = [
    "../../evil.txt",
    "/etc/cron.d/evil",
    "a/../../up",
    "..\\up",
    "C:\\windows\\x",
    "C:x",
    "a/./b",
    "./x",
    "a//b",
    "x\x1b[31m",
    "x\u202etxt",
    " x",
    "x ",
    "x.",
    "..",
    ".",
    "a/..",
]


def cases(seed: int, count: int) -> Iterator[Case]:
    names = list(BUILDS)
    for i in range(count):
        name = names[i % len(names)]
        build, refusals = BUILDS[name]

        def data(build: Build = build, i: int = i) -> bytes:
            rng = np.random.default_rng([seed, i])
            return build(rng, save(plain(rng)))

        yield single(
            f"zip/{name}-{i}", data, "x.zip", refusals=frozenset(refusals), max_bytes=8 << 20
        )


def packed(*files: tuple[str | zipfile.ZipInfo, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def _named(name: str) -> Build:
    return lambda rng, weights: packed(("m/a.safetensors", weights), (name, b"x"))


def _empty_name(rng: Rng, weights: bytes) -> bytes:
    """A file whose name of one character is taken for a field of its own instead."""
    data = bytearray(packed(("a.safetensors", weights), ("x", b"x")))
    local, entry = data.rindex(b"PK\x03\x04"), data.rindex(b"PK\x01\x02")
    for at in (local + 26, entry + 28):
        data[at : at + 4] = struct.pack("<2H", 0, 1)
    return bytes(data)


def _null_name(rng: Rng, weights: bytes) -> bytes:
    data = packed(("a.safetensors", weights), ("evilXsafe.txt", b"x"))
    return data.replace(b"evilXsafe.txt", b"evil\0safe.txt")


def _case_clash(rng: Rng, weights: bytes) -> bytes:
    return packed(("m/a.safetensors", weights), ("m/README.md", b"1"), ("M/readme.MD", b"2"))


def _same_name(rng: Rng, weights: bytes) -> bytes:
    data = packed(("a.safetensors", weights), ("README.md", b"1"), ("READMX.md", b"2"))
    return data.replace(b"READMX", b"README")


def _file_as_folder(rng: Rng, weights: bytes) -> bytes:
    return packed(("a.safetensors", weights), ("m", b"1"), ("m/x", b"2"))


def _link(rng: Rng, weights: bytes) -> bytes:
    info = zipfile.ZipInfo("adapter_config.json")
    info.create_system, info.external_attr = 3, some(rng, [0o120777, 0o020666, 0o010644]) << 16
    return packed(("a.safetensors", weights), (info, b"/etc/passwd"))


def _locked(rng: Rng, weights: bytes) -> bytes:
    data = bytearray(packed(("a.safetensors", weights)))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _bomb(rng: Rng, weights: bytes) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    zeros = bytes((3 + int(rng.integers(4))) << 20)
    return packed(("a.safetensors", struct.pack("<Q", len(header)) + header + zeros))


def _too_large(rng: Rng, weights: bytes) -> bytes:
    return packed(("a.safetensors", rng.bytes(9 << 20)), kind=zipfile.ZIP_STORED)


def _too_large_card(rng: Rng, weights: bytes) -> bytes:
    text = rng.bytes(5 << 20)
    return packed(("a.safetensors", weights), ("README.md", text), kind=zipfile.ZIP_STORED)


def _overlap(rng: Rng, weights: bytes) -> bytes:
    """Many directory entries over the bytes of one file."""
    data = packed(("a.safetensors", weights))
    start = data.index(b"PK\x01\x02")
    entry = data[start : data.index(b"PK\x05\x06")]
    copies = 2 + int(rng.integers(30))
    many = b"".join(entry.replace(b"a.safe", b"%c.safe" % (97 + i)) for i in range(copies))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, copies, copies, len(many), start, 0)
    return data[:start] + many + end


def _other_local_name(rng: Rng, weights: bytes) -> bytes:
    return packed(("a.safetensors", weights)).replace(b"a.safetensors", b"b.safetensors", 1)


def _lying_size(rng: Rng, weights: bytes) -> bytes:
    data = bytearray(packed(("a.safetensors", weights)))
    at = data.rindex(b"PK\x01\x02") + some(rng, [20, 24])
    data[at : at + 4] = struct.pack("<I", int(rng.integers(1, 1 << 30)))
    return bytes(data)


def _wrong_checksum(rng: Rng, weights: bytes) -> bytes:
    data = bytearray(packed(("a.safetensors", weights), kind=zipfile.ZIP_STORED))
    data[60 + int(rng.integers(len(weights) - 60))] ^= 0xFF
    return bytes(data)


def _cut(rng: Rng, weights: bytes) -> bytes:
    data = packed(("a.safetensors", weights))
    return data[: int(rng.integers(8, len(data) - 4))]


def _many(rng: Rng, weights: bytes) -> bytes:
    extra = [(f"{i}.txt", b"") for i in range(64 + int(rng.integers(400)))]
    return packed(("a.safetensors", weights), *extra)


def _nested(rng: Rng, weights: bytes) -> bytes:
    return packed(("inner.zip", packed(("a.safetensors", weights))))


def _two(rng: Rng, weights: bytes) -> bytes:
    return packed(("a/a.safetensors", weights), ("b/b.safetensors", weights))


def _none(rng: Rng, weights: bytes) -> bytes:
    return packed(("README.md", b"# nothing"), ("x.txt", rng.bytes(10)))


def _two_configs(rng: Rng, weights: bytes) -> bytes:
    config = b'{"peft_type": "LORA"}'
    names = ("m/adapter_config.json", "n/adapter_config.json")
    return packed(("m/a.safetensors", weights), *((name, config) for name in names))


def _packing(kind: int) -> Build:
    return lambda rng, weights: packed(("a.safetensors", weights), kind=kind)


def _empty(rng: Rng, weights: bytes) -> bytes:
    return b"PK\x05\x06" + bytes(18)


BUILDS: dict[str, tuple[Build, tuple[str, ...]]] = {
    "empty-name": (_empty_name, ("zip-names",)),
    "null-name": (_null_name, ("zip-names", "zip-overlap")),
    "case-clash": (_case_clash, ("zip-names",)),
    "same-name": (_same_name, ("zip-names",)),
    "file-as-folder": (_file_as_folder, ("zip-names",)),
    "many": (_many, ("zip-names",)),
    "link": (_link, ("zip-kind",)),
    "locked": (_locked, ("zip-kind",)),
    "bzip2": (_packing(zipfile.ZIP_BZIP2), ("zip-kind",)),
    "lzma": (_packing(zipfile.ZIP_LZMA), ("zip-kind",)),
    "bomb": (_bomb, ("zip-ratio",)),
    "too-large": (_too_large, ("too-large",)),
    "too-large-card": (_too_large_card, ("too-large",)),
    "overlap": (_overlap, ("zip-overlap", "zip-names", "zip-weights")),
    "other-local-name": (_other_local_name, ("zip-overlap",)),
    "lying-size": (_lying_size, ("zip", "zip-overlap", "zip-ratio", "tensor-spans")),
    "wrong-checksum": (_wrong_checksum, ("zip", "zip-overlap")),
    "cut": (_cut, ("zip", "zip-overlap")),
    "nested": (_nested, ("zip-weights",)),
    "two": (_two, ("zip-weights",)),
    "none": (_none, ("zip-weights",)),
    "two-configs": (_two_configs, ("zip-weights",)),
    "empty": (_empty, ("zip", "not-safetensors", "pickle")),
    **{f"name-{i}": (_named(name), ("zip-names",)) for i, name in enumerate(NAMES)},
}


def zipped(folder: Path, target: Path) -> Path:
    """An ordinary zip of a folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return target
