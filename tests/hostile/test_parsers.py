"""The header parser against the safetensors library, against random files, and against bugs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import header as ours
from lora_studio.formats import load
from lora_studio.formats.header import Header, check_agreement, iterate_tensors, read_header
from tests.figures import cases, record
from tests.hostile.cases import Rng, body_of, file_of, header_of, plain, some
from tests.hostile.planted import BUGS, noticed

SEED = 4


def mutant(rng: Rng, text: bytes, body: bytes) -> bytes:
    """A valid file with one to three small changes: of bytes, numbers, words or whole entries."""
    data = text
    for _ in range(int(rng.integers(1, 4))):
        data = CHANGES[int(rng.integers(len(CHANGES)))](rng, data)
    length = len(data) + (int(rng.integers(-3, 4)) if rng.random() < 0.1 else 0)
    cut = int(rng.integers(1, 9)) if rng.random() < 0.1 else 0
    return file_of(data, body[: len(body) - cut], max(0, length))


def _byte(rng: Rng, text: bytes) -> bytes:
    at = int(rng.integers(len(text)))
    return text[:at] + bytes([int(rng.integers(256))]) + text[at + 1 :]


def _number(rng: Rng, text: bytes) -> bytes:
    digits = [i for i, c in enumerate(text) if 48 <= c <= 57]
    at = some(rng, digits)
    value = some(
        rng, ["0", "-1", "1e3", "1.0", "00", "9" * 30, "-0", "", "true", "18446744073709551616"]
    )
    return text[:at] + value.encode() + text[at + 1 :]


def _word(rng: Rng, text: bytes) -> bytes:
    old = some(rng, ["F32", "dtype", "shape", "data_offsets", "lora_A", "__metadata__", "pt"])
    new = some(rng, ["F16", "I32", "BF16", "x", "", "shape", "lora_B", "F4", "\\u0000", "\\ud800"])
    return text.replace(old.encode(), new.encode(), 1)


def _again(rng: Rng, text: bytes) -> bytes:
    """An entry of the header, or all of it, a second time."""
    start = text.find(b'"base_model', int(rng.integers(len(text))))
    end = text.find(b"}", start) + 1
    if start < 0 or end <= 0:
        return text[:-1] + b"," + text[1:]
    return text[:-1] + b", " + text[start:end] + b"}"


def _space(rng: Rng, text: bytes) -> bytes:
    at = int(rng.integers(len(text)))
    return text[:at] + some(rng, [b" ", b"\n", b"\t", b"\0", b"\xef\xbb\xbf", b","]) + text[at:]


CHANGES: list[Callable[[Rng, bytes], bytes]] = [_byte, _number, _word, _again, _space]


def disagreements(count: int, place: Path) -> tuple[int, int, list[bytes]]:
    """(accepted by us, by the library, files that we accept and the library reads otherwise)."""
    rng = np.random.default_rng(SEED)
    tensors = plain(rng)
    text, body = json.dumps(header_of(tensors)).encode(), body_of(tensors)
    accepted = theirs = 0
    found: list[bytes] = []
    for _ in range(count):
        data = mutant(rng, text, body)
        place.write_bytes(data)
        other = library(place)
        theirs += other is not None
        try:
            mine = read_header(place)
        except InvalidAdapter:
            continue
        accepted += 1
        if other != {n: (i.dtype, i.shape) for n, i in mine.tensors.items()}:
            found.append(data)
    return accepted, theirs, found


def library(place: Path) -> dict[str, Any] | None:
    try:
        with safe_open(place, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {n: (s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
    except (SafetensorError, TypeError, ValueError, OSError):
        return None


def test_what_is_accepted_the_library_reads_the_same(tmp_path, monkeypatch):
    started, count = time.time(), cases(3000, 1_000_000)
    accepted, theirs, found = disagreements(count, tmp_path / "x")
    seconds = time.time() - started
    monkeypatch.setattr(ours, "_unique", dict)  # a parser that lets the last of two entries win
    monkeypatch.setattr(ours, "_NAME", ours.re.compile(r".*"))
    without = disagreements(3000, tmp_path / "x")[2]
    record(
        "T4 two parsers", count=count, failures=len(found), seconds=seconds, seed=SEED,
        control=f"without the check for names given twice: {len(without)} of 3000 disagree",
        accepted=accepted, accepted_by_the_library=theirs,
    )  # fmt: skip
    assert accepted > count / 100, "the mutants are too wild to say anything"
    assert not found, found[0]


NAMES = st.text("abcXYZ019_./-", min_size=1, max_size=40)
SHAPES = st.lists(st.integers(1, 6), min_size=0, max_size=4)
TENSORS = st.dictionaries(NAMES, SHAPES, min_size=1, max_size=8)


def examples(most: int, check: Callable[..., None], **drawn: st.SearchStrategy) -> tuple[int, str]:
    """How many examples were tried, and the first that broke the promise, "" if none did."""
    tried, last = 0, ""

    @settings(max_examples=most, deadline=None, database=None, phases=[Phase.generate])
    @given(**drawn)
    def each(**values: Any) -> None:
        nonlocal tried, last
        tried, last = tried + 1, repr(values)
        check(**values)

    try:
        each()
    except AssertionError as error:
        return tried, f"{last}: {error}"
    return tried, ""


def test_what_the_library_writes_is_read_as_it_was(tmp_path, monkeypatch):
    path, started = tmp_path / "x", time.time()

    def check(tensors: dict[str, list[int]], seed: int) -> None:
        rng = np.random.default_rng(seed)
        made = {n: np.asarray(rng.normal(size=s), np.float32) for n, s in tensors.items()}
        save_file(made, path)
        found = ours.read_header(path)
        ours.check_agreement(path, found)
        assert {n: i.shape for n, i in found.tensors.items()} == {
            n: v.shape for n, v in made.items()
        }
        assert all(np.array_equal(value, made[name]) for name, value in iterate_tensors(path))

    drawn = {"tensors": TENSORS, "seed": st.integers(0, 2**32 - 1)}
    count, broken = examples(cases(150, 20_000), check, **drawn)
    seconds = time.time() - started
    monkeypatch.setattr(ours, "check_agreement", lambda *_: None)
    monkeypatch.setattr(ours, "read_header", lambda path: backwards(read_header(path)))
    without, noticed = examples(cases(150, 20_000), check, **drawn)
    record(
        "T2 read as it was written", count=count, failures=int(bool(broken)), seconds=seconds,
        control=f"shapes read backwards are noticed within {without} examples"
        if noticed else "shapes read backwards are NOT noticed",
    )  # fmt: skip
    assert not broken, broken
    assert noticed


def backwards(found: Header) -> Header:
    """A header as a parser with a mistake would read it."""
    tensors = {n: replace(i, shape=i.shape[::-1]) for n, i in found.tensors.items()}
    return replace(found, tensors=tensors)


def test_reading_again_and_in_another_order_is_the_same_adapter(tmp_path):
    one, two, started = tmp_path / "a.safetensors", tmp_path / "b.safetensors", time.time()

    def check(seed: int, rank: int, touched: bool = False) -> None:
        tensors = plain(np.random.default_rng(seed), rank)
        save_file(tensors, one)
        shuffled = dict(reversed(tensors.items()))
        if touched:
            name = next(iter(shuffled))
            shuffled[name] = shuffled[name] * np.float32(1.001)
        two.write_bytes(file_of(header_of(shuffled), body_of(shuffled)))
        first = load(one).adapter
        assert first.id == load(one).adapter.id
        assert first.id == load(two).adapter.id

    drawn = {"seed": st.integers(0, 2**32 - 1), "rank": st.integers(1, 8)}
    count, broken = examples(cases(40, 5_000), check, **drawn)
    seconds = time.time() - started
    _, noticed = examples(5, check, **drawn, touched=st.just(True))
    record(
        "T2 the same in any order", count=count, failures=int(bool(broken)), seconds=seconds,
        control="one tensor changed by a thousandth is another adapter",
    )  # fmt: skip
    assert not broken, broken
    assert noticed


def test_a_header_that_the_library_reads_otherwise_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones(4, np.float32)}, path)
    other = Header({}, {}, 0)
    with pytest.raises(InvalidAdapter) as refused:
        check_agreement(path, other)
    assert refused.value.refusal == "parsers-disagree"


def test_planted_bugs_are_noticed(tmp_path):
    """The corpus notices bugs put into the reading of uploads; a copy without one passes."""
    started = time.time()
    clean = (BUGS[0][0], BUGS[0][1], BUGS[0][1])
    assert not noticed(clean, tmp_path / "clean"), "the corpus fails without any bug"
    chosen = BUGS[: cases(1, len(BUGS))]
    missed = [bug for i, bug in enumerate(chosen) if not noticed(bug, tmp_path / str(i))]
    record(
        "T5 planted bugs", count=len(chosen), failures=len(missed), seconds=time.time() - started,
        control="a copy without a bug is found whole",
    )  # fmt: skip
    assert len(missed) <= 2 * (len(chosen) > 20), missed
