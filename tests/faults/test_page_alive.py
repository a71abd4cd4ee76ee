"""Whatever a worker does, the page goes on answering, and only the guilty job fails."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.faults.memory_group import memory_group
from tests.figures import cases, record
from tests.web.conftest import ROOT, free_port

EVERY = 0.2  # seconds between two looks at the page
PAGES = ("/studio/api/status", "/")
HELD = 2.0  # seconds for which the control holds the web process
DEADLINE = 0.5
FAULTS: dict[str, tuple[str, float | None]] = {  # what a child does: what is told, deadline
    "kill_itself": ("SIGKILL", None),
    "crash": ("SIGSEGV", None),
    "take_more_than_allowed": ("out of memory", None),
    "be_ended_by_the_kernel": ("SIGKILL", None),
    "loop_for_ever": ("longer than 0.5 s", DEADLINE),
    "hold_the_interpreter": ("longer than 0.5 s", DEADLINE),
    "wait_for_a_device": ("longer than 0.5 s", DEADLINE),
    "talk_nonsense": ("no answer", None),
    "answer_with_a_gigabyte": ("limit is 8388608", None),
}


class Probe:
    """Looks at the page five times a second; `times` are the seconds of each answer."""

    def __init__(self, url: str) -> None:
        self.times: list[float] = []
        self.failures = 0
        self._client = httpx.Client(base_url=url, timeout=30)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _loop(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                page = PAGES[len(self.times) % len(PAGES)]
                self.failures += self._client.get(page).status_code != 200
            except httpx.HTTPError:
                self.failures += 1
            self.times.append(time.monotonic() - began)
            self._stop.wait(max(0.0, EVERY - self.times[-1]))


@contextmanager
def faulty_site(data: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A running site whose workers misbehave; its address and its process."""
    port = free_port()
    command = [sys.executable, "tests/faults/faulty_site.py", str(data), str(port)]
    with (data.parent / "site.log").open("w") as log:
        site = psutil.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await(f"http://127.0.0.1:{port}/studio/api/status", site, Path(log.name))
            yield f"http://127.0.0.1:{port}", site
        finally:
            site.terminate()
            site.wait(20)


def _await(url: str, site: psutil.Popen, log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and site.poll() is None:
        try:
            httpx.get(url).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    pytest.fail(f"the site did not start:\n{log.read_text()[-4000:]}")


def wrong(do: str, answer: dict) -> str:
    """What is wrong with how a faulty job and the next one ended, if anything."""
    told, deadline = FAULTS[do]
    late = answer["failed_after"] - (deadline or 0.0)
    if answer["code"] != "WorkerFailed" or told not in answer["error"]:
        return f"{do}: {answer['code']} {answer['error']}"
    if deadline and late > 2.0:
        return f"{do}: told {late:.1f} s late"
    return "" if answer["next"] == "nothing" else f"{do}: then {answer['next']}"


def held(url: str) -> float:
    """The control: seconds a page takes while the web process does the work of a child."""
    with Probe(url) as probe, httpx.Client(base_url=url, timeout=30) as client:
        time.sleep(2 * EVERY)
        client.get("/hold", params={"seconds": HELD})
        time.sleep(2 * EVERY)
    return max(probe.times)


def test_the_page_answers_whatever_a_worker_does(tmp_path: Path):
    started, count = time.time(), cases(2, 100)
    failures: list[str] = []
    answers: list[dict] = []
    with faulty_site(tmp_path / "data") as (url, site), memory_group() as group:
        faults = [do for do in FAULTS if group or do != "be_ended_by_the_kernel"]
        with httpx.Client(base_url=url, timeout=120) as client:
            client.get("/fault", params={"args": json.dumps({"do": "nothing"})})  # starts the child
            before, largest = site.memory_info().rss, 0
            with Probe(url) as probe:
                for do in faults * count:
                    query = {"args": json.dumps({"do": do, "group": str(group)})}
                    if (deadline := FAULTS[do][1]) is not None:
                        query["deadline"] = str(deadline)
                    answer = client.get("/fault", params=query).raise_for_status().json()
                    answers.append(answer)
                    failures += filter(None, [wrong(do, answer)])
                    largest = max(largest, site.memory_info().rss)
            blocked = held(url)
    p99 = float(np.percentile(probe.times, 99))
    record(
        "T10 worker faults", count=len(answers), failures=len(failures) + probe.failures,
        seconds=time.time() - started,
        control=f"the web process itself held for {HELD:g} s: the page took {blocked:.1f} s",
        kinds=len(faults), looks_at_the_page=len(probe.times), page_p50_ms=_ms(probe.times, 50),
        page_p99_ms=_ms(probe.times, 99), page_slowest_ms=_ms(probe.times, 100), goal_p99_ms=500,
        next_job_done_after_s_at_most=max(a["next_after"] for a in answers),
        next_job_done_after_s_p50=float(np.median([a["next_after"] for a in answers])),
        web_process_grew_mb_at_most=(largest - before) / 2**20,
    )  # fmt: skip
    assert failures == []
    assert probe.failures == 0
    assert blocked > HELD / 2, "the probe cannot see a page that hangs"
    assert p99 < blocked / 2, "the page waits for its workers"


def _ms(times: list[float], percentile: float) -> float:
    return round(1000 * float(np.percentile(times, percentile)), 1)
