"""Whatever the bytes, what reads them says no in one way only. `make fuzz` runs atheris, which is
guided by coverage; `make test` gives the same targets random mutants."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from lora_studio.formats import header
from tests.figures import FULL, cases, record
from tests.hostile.fuzz import TARGETS, mutated, once, seeds
from tests.hostile.test_corpus import ROOT

SEED = 3
RUNS = {"header": 100_000_000, "config": 10_000_000, "archive": 10_000_000, "names": 10_000_000}


@pytest.mark.parametrize("target", TARGETS)
def test_random_bytes_are_read_or_refused(target):
    rng, given = np.random.default_rng(SEED), seeds(target)
    for i in range(cases(600, 20_000)):
        once(target, mutated(rng, given[i % len(given)]))


def test_an_error_of_another_kind_would_escape(monkeypatch):
    """The control: a reader that takes every header for JSON is found by the same mutants."""
    monkeypatch.setattr(header, "_object", json.loads)
    rng, (seed,) = np.random.default_rng(SEED), seeds("header")
    inputs = [mutated(rng, seed) for _ in range(2000)]
    with pytest.raises(ValueError, match=r"."):
        consume(inputs)


def consume(inputs: list[bytes]) -> None:
    for data in inputs:
        once("header", data)


@pytest.mark.skipif(not FULL, reason="make fuzz runs it")
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_guided_by_coverage_finds_nothing(target):
    pytest.importorskip("atheris", reason="atheris is installed by `make fuzz`")
    runs = int(os.environ.get("LORA_STUDIO_FUZZ_RUNS", RUNS[target]))
    started = time.time()
    command = [sys.executable, "-m", "tests.hostile.guided", target, str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    text = done.stdout + done.stderr
    covered = re.findall(r"cov: (\d+)", text)
    record(
        f"T3 fuzzing {target}", count=runs, failures=int(done.returncode != 0),
        seconds=time.time() - started, seed=SEED,
        control="an error of another kind, put in on purpose, is noticed",
        full=runs >= RUNS[target],
        edges=int(covered[-1]) if covered else 0,
    )  # fmt: skip
    assert done.returncode == 0, text[-3000:]
