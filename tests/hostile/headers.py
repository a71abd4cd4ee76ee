"""Hostile safetensors: headers that lie, are enormous, or mean two things to two parsers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.hostile.cases import Case, Header, Rng, body_of, file_of, header_of, plain, single, some

Damage = Callable[[Rng, Header, str], bytes | Header]


def cases(seed: int, count: int) -> Iterator[Case]:
    """`count` files, all kinds of damage in turn."""
    names = list(DAMAGES)
    for i in range(count):
        name = names[i % len(names)]
        damage, refusals = DAMAGES[name]

        def data(damage: Damage = damage, i: int = i) -> bytes:
            rng = np.random.default_rng([seed, i])
            tensors = plain(rng)
            header = header_of(tensors)
            victim = some(rng, list(tensors))
            made = damage(rng, header, victim)
            body = body_of(tensors)
            return made(body) if callable(made) else file_of(made, body)

        yield single(f"header/{name}-{i}", data, refusals=frozenset(refusals))


def _set(key: str, value: Callable[[Rng, Any], Any]) -> Damage:
    def damage(rng: Rng, header: Header, victim: str) -> Header:
        header[victim][key] = value(rng, header[victim][key])
        return header

    return damage


def _renamed(name: Callable[[Rng], str]) -> Damage:
    def damage(rng: Rng, header: Header, victim: str) -> Header:
        header[name(rng)] = header.pop(victim)
        return header

    return damage


def _text(change: Callable[[Rng, str, str], str]) -> Damage:
    def damage(rng: Rng, header: Header, victim: str) -> bytes:
        return change(rng, json.dumps(header), victim).encode("utf-8", "surrogatepass")

    return damage


def _bytes(change: Callable[[Rng, bytes], bytes]) -> Any:
    """Damage to the finished file."""

    def damage(rng: Rng, header: Header, victim: str) -> Any:
        return lambda body: change(rng, file_of(header, body))

    return damage


def _length(value: Callable[[Rng], int]) -> Any:
    def damage(rng: Rng, header: Header, victim: str) -> Any:
        return lambda body: file_of(header, body, value(rng))

    return damage


def _value(number: Callable[[Rng], float]) -> Any:
    """One number of the weights is this."""

    def damage(rng: Rng, header: Header, victim: str) -> Any:
        def change(body: bytes) -> bytes:
            values = np.frombuffer(body, "<f4").copy()
            values[rng.integers(len(values))] = number(rng)
            return file_of(header, values.tobytes())

        return change

    return damage


def _overlap(rng: Rng, header: Header, victim: str) -> Header:
    first, second = rng.permutation([n for n in header if n != "__metadata__"])[:2]
    header[str(second)] = dict(header[str(first)])
    return header


def _shared(rng: Rng, header: Header, victim: str) -> Header:
    """Every byte belongs to a tensor, and some belong to two."""
    other = victim.replace(".layers.", f".layers.{int(rng.integers(1, 10))}")
    header[other] = dict(header[victim])
    return header


def _hole(rng: Rng, header: Header, victim: str) -> Any:
    names = [n for n in header if n != "__metadata__"]
    gap = 4 * int(rng.integers(1, 9))
    for name in names[int(rng.integers(1, len(names))) :]:
        header[name]["data_offsets"] = [n + gap for n in header[name]["data_offsets"]]
    return lambda body: file_of(header, body + b"\0" * gap)


def _many(rng: Rng, header: Header, victim: str) -> Any:
    count = 65_537 + int(rng.integers(100))
    tensors = {
        f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(count)
    }
    return lambda body: file_of(tensors, bytes(count))


def _meta(value: Callable[[Rng], Any]) -> Damage:
    def damage(rng: Rng, header: Header, victim: str) -> Header:
        header["__metadata__"] = value(rng)
        return header

    return damage


def _twice(rng: Rng, text: str, victim: str) -> str:
    entry = json.dumps({victim: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})[1:-1]
    return text[:-1] + ", " + entry + "}"


_BAD = ("header",)
DAMAGES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "length-huge": (
        _length(lambda r: int(some(r, [2**60, 2**64 - 1, 100_000_001, 2**31, 99_000_000]))),
        ("not-safetensors",),
    ),
    "length-zero": (_length(lambda r: int(r.integers(2))), ("not-safetensors",)),
    "length-short": (
        _length(lambda r: int(r.integers(2, 200))), ("header", "not-safetensors"),
    ),
    "length-long": (
        _length(lambda r: 1400 + int(r.integers(100))),
        ("header", "not-safetensors"),
    ),
    "empty": (_bytes(lambda r, d: b""), ("not-the-file",)),
    "few-bytes": (
        _bytes(lambda r, d: d[: int(r.integers(1, 8))]), ("not-safetensors",),
    ),
    "truncated": (
        _bytes(lambda r, d: d[: -int(r.integers(1, 400))]), ("tensor-spans",),
    ),
    "trailing": (
        _bytes(lambda r, d: d + bytes(int(r.integers(1, 64)))), ("tensor-spans",),
    ),
    "noise": (
        _bytes(lambda r, d: r.bytes(2000)), ("not-safetensors", "pickle", "not-the-file"),
    ),
    "web-page": (
        _bytes(lambda r, d: b"<!DOCTYPE html><html><title>404</title>" + r.bytes(50)),
        ("not-the-file",),
    ),
    "lfs-pointer": (
        _bytes(lambda r, d: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        ("not-the-file",),
    ),
    "leading-space": (_text(lambda r, t, v: " " * int(r.integers(1, 9)) + t), ("not-safetensors",)),
    "byte-order-mark": (_text(lambda r, t, v: "\ufeff" + t), ("not-safetensors",)),
    "utf-16": (lambda r, h, v: json.dumps(h).encode("utf-16"), ("not-safetensors",)),
    "bad-utf-8": (
        lambda r, h, v: json.dumps(h).encode().replace(b"pt", bytes([0xFF, 0xC3])), _BAD,
    ),
    "lone-surrogate": (
        _text(lambda r, t, v: t.replace('"pt"', '"\\ud800"')), ("header", "parsers-disagree"),
    ),
    "list": (lambda r, h, v: json.dumps([h]).encode(), ("not-safetensors",)),
    "junk-after": (_text(lambda r, t, v: t + some(r, ["x", "{}", ",", "\0"])), _BAD),
    "deep": (
        _text(lambda r, t, v: '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        _BAD,
    ),
    "nan-in-json": (
        _text(lambda r, t, v: t[:-1] + ', "x": ' + some(r, ["NaN", "Infinity", "-Infinity"]) + "}"),
        _BAD,
    ),
    "tensor-twice": (_text(_twice), _BAD),
    "metadata-twice": (
        _text(lambda r, t, v: t[:-1] + ', "__metadata__": {"format": "tf"}}'), _BAD,
    ),
    "field-twice": (
        _text(lambda r, t, v: t.replace('"dtype": "F32"', '"dtype": "F16", "dtype": "F32"', 1)),
        _BAD,
    ),
    "extra-field": (
        lambda r, h, v: {**h, v: {**h[v], "run": "rm -rf /"}}, _BAD,
    ),
    "field-missing": (
        lambda r, h, v: {**h, v: dict([e for e in h[v].items() if e[0] != "shape"][:2])}, _BAD,
    ),
    "entry-no-object": (lambda r, h, v: {**h, v: some(r, [1, "x", None, [], True])}, _BAD),
    "metadata-no-text": (
        _meta(lambda r: some(r, [[], "x", 3, {"a": 1}, {"a": None}, {"a": {"b": "c"}}])), _BAD,
    ),
    "metadata-keys": (
        _meta(lambda r: {f"k{i}": "" for i in range(5000 + int(r.integers(99)))}),
        ("header-caps",),
    ),
    "metadata-bytes": (
        _meta(lambda r: {"ss_tag_frequency": "x" * (5 << 20)}), ("header-caps",),
    ),
    "header-bytes": (
        _meta(lambda r: {"a": "x" * (9 << 20)}), ("header-caps",),
    ),
    "many-tensors": (_many, ("header-caps",)),
    "dtype": (
        _set("dtype", lambda r, x: some(r, ["F31", "", "f32", "OBJECT", 4, None, "F4", ["F32"]])),
        ("tensor-shapes",),
    ),
    "dims": (
        _set("shape", lambda r, x: [1] * int(r.integers(6, 4000)) + x), ("tensor-shapes",),
    ),
    "dim-zero": (
        _set("shape", lambda r, x: some(r, [[0, 24], [24, 0], [0], [0, 2**62]])),
        ("tensor-shapes",),
    ),
    "dim-no-number": (
        _set("shape", lambda r, x: some(r, [[4.0, 24], ["4", 24], [True, 96], [None], [-4, -24]])),
        ("tensor-shapes",),
    ),
    "dim-huge": (
        _set("shape", lambda r, x: some(r, [[2**62, 8], [2**63, 2], [2**64 - 1], [1 << 21]])),
        ("tensor-shapes",),
    ),
    "shape-no-list": (
        _set("shape", lambda r, x: some(r, ["4x24", 96, {"0": 4}, None])), ("tensor-shapes",),
    ),
    "shape-other": (
        _set("shape", lambda r, x: [x[0] + int(r.integers(1, 5)), x[1]]), ("tensor-spans",),
    ),
    "span-negative": (
        _set("data_offsets", lambda r, x: [-int(r.integers(1, 99)), x[1]]), ("tensor-spans",),
    ),
    "span-reversed": (_set("data_offsets", lambda r, x: x[::-1]), ("tensor-spans",)),
    "span-no-numbers": (
        _set("data_offsets", lambda r, x: some(r, [[0.0, 1.5], ["0", "4"], [0], [0, 1, 2], None])),
        ("tensor-spans",),
    ),
    "span-beyond": (
        _set("data_offsets", lambda r, x: [n + 10_000 for n in x]), ("tensor-spans",),
    ),
    "overlap": (_overlap, ("tensor-spans",)),
    "shared": (_shared, ("tensor-spans",)),
    "hole": (_hole, ("tensor-spans",)),
    "name-empty": (_renamed(lambda r: ""), ("tensor-names",)),
    "name-long": (
        _renamed(lambda r: "a" * int(r.integers(257, 5000))), ("tensor-names",),
    ),
    "name-odd": (
        _renamed(
            lambda r: some(
                r,
                ["a\0b", "<script>alert(1)</script>", "x\u202ey", "a\nb", "q\\u", "a;b", "é", '"'],
            )
        ),
        ("tensor-names",),
    ),
    "not-finite": (
        _value(lambda r: some(r, [float("nan"), float("inf"), -float("inf")])), ("not-finite",),
    ),
    "values": (_value(lambda r: float(some(r, [1e4, -5e3, 3e38, -1e20]))), ("values",)),
}  # fmt: skip
