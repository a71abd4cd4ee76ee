"""Hostile files get a refusal with the right code, honest ones get in; nothing crashes, hangs,
fills the memory, writes elsewhere, runs or calls anything.

`make test` reads a part of the corpus in one confined process; the full count is read by
`make soak`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from lora_studio.refusals import MEANINGS
from tests.figures import cases as count_of
from tests.figures import record
from tests.hostile import archives, configs, headers, oddities, pickled
from tests.hostile.cases import Case
from tests.hostile.honest import honest
from tests.hostile.pickled import CANARY

SEED = 2026
SLOWEST = 10.0
MEMORY = 1536
ROOT = Path(__file__).resolve().parents[2]


def read_all(cases: Iterable[Case], folder: Path, **limits: object) -> list[tuple[Case, dict]]:
    """Every case written and read in a confined process that is given nothing else to do."""
    cwd = folder / "cwd"
    cwd.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.runner"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd, env=env,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    found = []
    with process:
        for case in cases:
            with tempfile.TemporaryDirectory(dir=folder) as home:
                place = Path(home) / "in"
                place.mkdir()
                path = case.write(place)
                line = {
                    "path": str(path), "out": str(Path(home) / "out.safetensors"),
                    "max_bytes": case.max_bytes, "limits": limits,
                }  # fmt: skip
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                assert answer, f"{case.name} ended the process"
                found.append((case, json.loads(answer)))
        process.stdin.close()
        assert not (cwd / CANARY).exists(), "a payload ran"
        assert not any(cwd.iterdir())
    return found


def wrong(case: Case, answer: dict) -> str:
    """What is wrong with an answer, if anything."""
    if answer["seconds"] > SLOWEST or answer["memory"] > MEMORY:
        return f"{case.name} took {answer['seconds']:.1f} s, {answer['memory']} MiB"
    expected = "refused" if case.refusals else "accepted"
    right = answer["outcome"] == expected and (
        not case.refusals or answer["refusal"] in case.refusals
    )
    said = f"{answer['outcome']} {answer['refusal']}: {answer['message'][:160]}"
    return "" if right else f"{case.name} should be {expected} {set(case.refusals)}, was {said}"


def hostile(share: float) -> Iterable[Case]:
    """The corpus; `share` of the full count of each kind."""

    def n(full: int) -> int:
        return max(1, round(full * share))

    return chain(
        headers.cases(SEED, n(600)),
        configs.cases(SEED, n(300)),
        archives.cases(SEED, n(250)),
        pickled.cases(SEED, n(300)),
        oddities.structures(SEED, n(200)),
        oddities.texts(SEED, n(200)),
        oddities.file_names(SEED, n(100)),
        oddities.sizes(SEED, n(50)),
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    started = time.time()
    made = read_all(hostile(count_of(3, 20) / 20), tmp_path_factory.mktemp("hostile"))
    return made, time.time() - started


def test_hostile_files_are_refused_for_the_right_reason(answers):
    found, seconds = answers
    failures = [text for case, answer in found if (text := wrong(case, answer))]
    times = np.array([answer["seconds"] for _, answer in found])
    record(
        "T1 hostile files", count=len(found), failures=len(failures), seconds=seconds, seed=SEED,
        control="an honest file expected to be refused is noticed",
        p95_seconds=float(np.percentile(times, 95)), slowest_seconds=float(times.max()),
        memory_mib=max(answer["memory"] for _, answer in found),
    )  # fmt: skip
    assert not failures, "\n".join(failures[:20])


def test_every_code_is_met_and_every_refusal_says_what_to_do(answers):
    found, _ = answers
    refused = [answer for _, answer in found if answer["outcome"] == "refused"]
    met = {answer["refusal"] for answer in refused}
    elsewhere = {"base-model", "dry-run", "resources", "parsers-disagree"}
    assert met >= MEANINGS.keys() - elsewhere
    assert all(20 < len(answer["message"]) < 900 for answer in refused)


def test_honest_files_get_in(tmp_path):
    started = time.time()
    found = read_all(honest(SEED, count_of(60, 300)), tmp_path)
    failures = [text for case, answer in found if (text := wrong(case, answer))]
    record(
        "T1 honest files", count=len(found), failures=len(failures), seconds=time.time() - started,
        seed=SEED, control="a truncated copy of each kind is refused (hostile files, header)",
    )  # fmt: skip
    assert not failures, "\n".join(failures[:20])


def test_where_pickles_are_allowed_honest_ones_get_in_and_no_other(tmp_path):
    count = count_of(26, 300)
    found = read_all(pickled.cases(SEED, count, allowed=True), tmp_path, pickles=True)
    failures = [text for case, answer in found if (text := wrong(case, answer))]
    assert not failures, "\n".join(failures[:20])
    assert any(answer["outcome"] == "accepted" for _, answer in found)


def test_fields_that_nobody_obeys_change_nothing(tmp_path):
    """The same weights under a hostile configuration are the same adapter."""
    kinds = list(configs.IGNORED)
    found = read_all(configs.cases(SEED, len(kinds)), tmp_path)
    assert {answer["outcome"] for _, answer in found} == {"accepted"}

    def bare(folder: Path, i: int) -> Path:
        from tests.hostile.cases import folder_of, plain

        rng = np.random.default_rng([SEED, i])
        kind = configs.IGNORED[kinds[i]]
        kind(rng)
        return folder_of(folder, plain(rng), json.dumps(configs.HONEST))

    again = read_all(
        (Case(f"bare-{i}", lambda folder, i=i: bare(folder, i)) for i in range(len(kinds))),
        tmp_path / "again" if (tmp_path / "again").mkdir() is None else tmp_path,
    )
    assert [a["id"] for _, a in found] == [a["id"] for _, a in again]


def test_the_check_itself_can_fail(tmp_path):
    """The control: an honest file that is expected to be refused is reported."""
    case = next(iter(honest(SEED, 1)))
    expecting = Case(case.name, case.write, frozenset({"header"}))
    ((_, answer),) = read_all([expecting], tmp_path)
    assert "was accepted" in wrong(expecting, answer)
