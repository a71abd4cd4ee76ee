"""Whatever a child does, only the guilty job fails, with a clear message; the next one works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from lora_studio.errors import Cancelled, InvalidRequest, WorkerFailed
from lora_studio.settings import Settings
from lora_studio.worker.job import Job
from lora_studio.worker.local import LocalWorker

CHILD = (sys.executable, str(Path(__file__).with_name("faulty_child.py")))
LIMIT = 30.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    worker = LocalWorker(Settings(data_dir=tmp_path_factory.mktemp("data")), command=CHILD)
    yield worker
    worker.close()


@pytest.fixture
def worker(tmp_path):
    worker = LocalWorker(
        Settings(data_dir=tmp_path), command=CHILD, accept_seconds=5.0, cancel_seconds=0.5
    )
    yield worker
    worker.close()


def fault(do: str, deadline: float | None = None, **args) -> Job:
    return Job("fault", {"do": do, **args}, "light", deadline)


def pid_of(worker) -> int:
    return worker.submit(fault("nothing")).result(LIMIT)["pid"]


def is_gone(pid: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def wait_for(handle, kind: str) -> dict:
    return next(event for event in handle if event["type"] == kind)


def test_events_come_in_order(worker):
    handle = worker.submit(fault("nothing"))
    events = list(handle)
    assert [e["type"] for e in events] == ["queued", "started", "progress", "data", "done"]
    assert events[0]["position"] == 0
    assert events[2] == {"type": "progress", "fraction": 0.5, "message": "about to misbehave"}
    assert events[3] == {"type": "data", "answer": 42}
    assert list(handle) == events


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("crash", "SIGSEGV"),
        ("kill_itself", "SIGKILL"),
        ("leave", "exit code 4"),
        ("talk_nonsense", "no answer"),
        ("announce_a_gigabyte", "limit is 8388608"),
        ("answer_for_another", "no job in hand"),
        ("send_half_a_frame_and_die", "pipe closed"),
    ],
)
def test_a_death_fails_its_job_and_no_other(shared, do, reason):
    before = pid_of(shared)
    guilty, next_one = shared.submit(fault(do)), shared.submit(fault("nothing"))
    with pytest.raises(WorkerFailed, match=reason) as caught:
        guilty.result(LIMIT)
    assert "Try once more" in str(caught.value)
    assert next_one.result(LIMIT)["pid"] != before
    assert is_gone(before)


@pytest.mark.parametrize("do", ["hang", "hold_the_interpreter"])
def test_a_job_past_its_deadline_is_killed(shared, do):
    before = pid_of(shared)
    start = time.monotonic()
    with pytest.raises(WorkerFailed, match=r"longer than 0\.5 s"):
        shared.submit(fault(do, deadline=0.5)).result(LIMIT)
    assert time.monotonic() - start < 2.5
    assert is_gone(before)
    assert pid_of(shared) != before


def test_waiting_does_not_count_against_the_deadline(shared, tmp_path):
    first = shared.submit(fault("wait_for_file", file=str(tmp_path / "go")))
    second = shared.submit(fault("nothing", deadline=0.5))
    time.sleep(0.8)
    (tmp_path / "go").touch()
    first.result(LIMIT)
    assert second.result(LIMIT)["did"] == "nothing"


def test_what_a_killed_child_started_dies_with_it(shared):
    handle = shared.submit(fault("leave_a_grandchild", deadline=1.0))
    grandchild = wait_for(handle, "data")["grandchild"]
    with pytest.raises(WorkerFailed):
        handle.result(LIMIT)
    assert is_gone(grandchild)


@pytest.mark.parametrize(
    ("do", "error", "text"),
    [
        ("refuse", InvalidRequest, r"^k is 0; it must be at least 1\.$"),
        ("fail", WorkerFailed, r"inside 'fault' \(KeyError\)"),
        ("run_out_of_memory", WorkerFailed, "out of memory"),
        ("return_too_much", WorkerFailed, "cannot be sent"),
        ("return_nan", WorkerFailed, "cannot be sent"),
    ],
)
def test_errors_leave_the_child_alive(shared, do, error, text):
    before = pid_of(shared)
    with pytest.raises(error, match=text) as caught:
        shared.submit(fault(do)).result(LIMIT)
    assert "secret" not in str(caught.value)
    assert pid_of(shared) == before


def test_a_broken_gpu_context_ends_the_child_after_its_answer(shared):
    before = pid_of(shared)
    with pytest.raises(WorkerFailed, match="RuntimeError"):
        shared.submit(fault("break_the_gpu")).result(LIMIT)
    assert pid_of(shared) != before


def test_printing_does_not_disturb_the_channel(shared):
    assert shared.submit(fault("print_much")).result(LIMIT)["did"] == "print_much"


def test_a_request_too_large_to_send_fails_alone(shared):
    before = pid_of(shared)
    with pytest.raises(WorkerFailed, match="too large"):
        shared.submit(fault("nothing", text="x" * (9 << 20))).result(LIMIT)
    assert pid_of(shared) == before


def test_unknown_tasks_are_refused_by_name(shared):
    from lora_studio.errors import NotFound

    with pytest.raises(NotFound, match="no task called 'os'"):
        shared.submit(Job("os", {}, "light")).result(LIMIT)
    with pytest.raises(InvalidRequest, match="no lane"):
        shared.submit(Job("embed", {}, "heavy"))  # pyright: ignore[reportArgumentType]


def test_a_job_not_begun_is_tried_once_more(worker):
    assert worker.submit(fault("nothing", deaths_before_start=1)).result(LIMIT)["did"] == "nothing"


def test_a_job_not_begun_twice_fails_and_the_next_runs(worker):
    guilty = worker.submit(fault("nothing", deaths_before_start=2))
    innocent = worker.submit(fault("nothing"))
    with pytest.raises(WorkerFailed, match="exit code 7"):
        guilty.result(LIMIT)
    assert "started" not in [event["type"] for event in guilty]
    assert innocent.result(LIMIT)["did"] == "nothing"


def test_kill_minus_nine_from_outside(worker):
    pid = pid_of(worker)
    running = worker.submit(fault("hang"))
    later = worker.submit(fault("nothing"))
    wait_for(running, "started")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerFailed, match="SIGKILL"):
        running.result(LIMIT)
    assert later.result(LIMIT)["pid"] != pid


def test_an_idle_child_that_is_killed_comes_back(worker):
    pid = pid_of(worker)
    os.kill(pid, signal.SIGKILL)
    assert pid_of(worker) != pid


def test_a_stopped_child_is_replaced(tmp_path):
    worker = LocalWorker(Settings(data_dir=tmp_path), command=CHILD, accept_seconds=1.0)
    try:
        pid = pid_of(worker)
        os.kill(pid, signal.SIGSTOP)
        assert pid_of(worker) != pid
        assert is_gone(pid)
    finally:
        worker.close()


def test_positions_in_the_queue_count_down(worker, tmp_path):
    first = worker.submit(fault("wait_for_file", file=str(tmp_path / "go")))
    wait_for(first, "started")
    others = [worker.submit(fault("nothing")) for _ in range(3)]
    assert worker.status()["light"] | {"pid": 0, "rss": 0} == {
        "state": "busy",
        "job": "fault",
        "queued": 3,
        "reason": "",
        "pid": 0,
        "rss": 0,
    }
    others[1].cancel()
    (tmp_path / "go").touch()
    others[2].result(LIMIT)
    places = [[e["position"] for e in handle if e["type"] == "queued"] for handle in others]
    assert places == [[1], [2], [3, 2, 1]]
    assert [e["type"] for e in others[1]][-1] == "cancelled"
    with pytest.raises(Cancelled):
        others[1].result()


def test_a_cancelled_job_that_listens_ends_and_keeps_the_child(worker):
    pid = pid_of(worker)
    handle = worker.submit(fault("wait_for_cancel"))
    wait_for(handle, "started")
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result(LIMIT)
    assert pid_of(worker) == pid
    handle.cancel()


def test_a_cancelled_job_that_does_not_listen_is_killed(worker):
    pid = pid_of(worker)
    handle = worker.submit(fault("hang"))
    wait_for(handle, "progress")
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result(LIMIT)
    assert pid_of(worker) != pid


def test_a_child_that_cannot_start_is_reported_as_down(tmp_path):
    broken = (sys.executable, "-c", "raise SystemExit(5)")
    worker = LocalWorker(Settings(data_dir=tmp_path), command=broken)
    try:
        with pytest.raises(WorkerFailed, match=r"cannot be started.*exit code 5"):
            worker.submit(fault("nothing")).result(LIMIT)
        status = worker.status()
        assert status["light"]["state"] == "down"
        assert "exit code 5" in status["light"]["reason"]
        assert status["model"]["state"] == "stopped"
        with pytest.raises(WorkerFailed, match="cannot be started"):
            worker.submit(fault("nothing")).result(0.1)
    finally:
        worker.close()


def test_closing_fails_what_is_left_and_leaves_no_process(tmp_path):
    worker = LocalWorker(Settings(data_dir=tmp_path), command=CHILD)
    pid = pid_of(worker)
    running, waiting = worker.submit(fault("hang")), worker.submit(fault("nothing"))
    wait_for(running, "started")
    worker.close()
    for handle in (running, waiting, worker.submit(fault("nothing"))):
        with pytest.raises(WorkerFailed, match="closing"):
            handle.result(1.0)
    assert is_gone(pid)


def test_children_do_not_outlive_a_killed_parent(tmp_path):
    script = f"""
        import sys, time
        from pathlib import Path
        from lora_studio.settings import Settings
        from lora_studio.worker.job import Job
        from lora_studio.worker.local import LocalWorker
        worker = LocalWorker(Settings(data_dir=Path({str(tmp_path)!r})), command={CHILD!r})
        first = worker.submit(Job("fault", {{"do": "nothing"}}, "light"))
        print(first.result(30)["pid"], flush=True)
        worker.submit(Job("fault", {{"do": "hang"}}, "light"))
        time.sleep(60)
    """
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, cwd=root, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert is_gone(pid)


def test_an_idle_child_loads_no_heavy_library(worker):
    pid = pid_of(worker)
    maps = Path(f"/proc/{pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "libtorch" not in maps.read_text()
    assert worker.status()["light"]["rss"] < 200 << 20


def test_twenty_deaths_in_a_row_lose_nothing(shared):
    threads = psutil.Process().num_threads()
    files = psutil.Process().num_fds()
    for i in range(20):
        guilty = shared.submit(fault(("kill_itself", "talk_nonsense")[i % 2]))
        innocent = shared.submit(fault("nothing"))
        with pytest.raises(WorkerFailed):
            guilty.result(LIMIT)
        assert innocent.result(LIMIT)["did"] == "nothing"
    assert psutil.Process().num_threads() <= threads + 1
    assert psutil.Process().num_fds() <= files + 4
