"""A studio with ten thousand adapters answers eight visitors at once without an error."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load import ask, fill, measure, serving
from lora_studio.settings import Settings
from tests.figures import cases, record

CLIENTS = 8


def test_many_adapters_and_several_visitors_at_once(tmp_path: Path):
    started, count = time.time(), cases(300, 10_000)
    fill(Settings(data_dir=tmp_path / "data"), count)
    with serving(tmp_path / "data") as url:
        loads = list(measure(url, cases(8, 600), CLIENTS))
        nowhere = ask(url, lambda c, _: c.get("/studio/api/adapter/0").status_code == 200, 0.5, 2)
    measured = {}
    for load in loads:
        measured |= {
            f"{load.what} per s": load.rate, f"{load.what} p95 ms": load.p95_ms,
            f"{load.what} goal": f"{load.goal.rate:g} per s, {load.goal.p95_ms:g} ms",
        }  # fmt: skip
    record(
        f"T15 load, {count:,} adapters", count=sum(load.requests for load in loads),
        failures=sum(load.errors for load in loads), seconds=time.time() - started,
        control=f"asked for what is not there: {nowhere[1]} of {len(nowhere[0])} failed",
        visitors=CLIENTS, goals_reached=f"{sum(load.reached for load in loads)} of {len(loads)}",
        **measured,
    )  # fmt: skip
    assert [load.errors for load in loads] == [0, 0, 0]
    assert all(load.requests > CLIENTS for load in loads)
    assert nowhere[1] == len(nowhere[0]) > 0, "errors are not counted"
