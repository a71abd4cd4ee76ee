"""A supervised child is greeted, kept to its deadlines, and started again when it dies."""

from __future__ import annotations

import os
import queue
import sys
import textwrap
import time

import psutil
import pytest

from lora_studio.frames import BadFrame
from lora_studio.supervisor import Supervisor

ECHO = """
    import os, sys, time
    from lora_studio.frames import child_pipes, encode, read_frame
    reader, writer = child_pipes()
    assert not os.get_inheritable(reader.fileno()) and "LORA_STUDIO_PIPES" not in os.environ
    writer.write(encode({"type": "ready"}))
    while frame := read_frame(reader):
        if frame.get("die"):
            os._exit(3)
        time.sleep(frame.get("sleep", 0))
        writer.write(encode({"echo": frame}))
"""


class Watched:
    """A supervisor whose frames and states land in queues."""

    def __init__(self, script: str, **options) -> None:
        self.frames: queue.Queue = queue.Queue()
        self.states: queue.Queue = queue.Queue()
        self.supervisor = Supervisor(
            [sys.executable, "-c", textwrap.dedent(script)],
            name="test",
            on_frame=options.pop("on_frame", self.frames.put),
            on_state=lambda state, reason: self.states.put((state, reason)),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            delays=(0.0, 0.05, 0.05, 0.05),
            **options,
        )

    def until(self, state: str) -> str:
        while True:
            found, reason = self.states.get(timeout=30)
            if found == state:
                return reason


@pytest.fixture
def watch():
    made: list[Watched] = []

    def start(script: str = ECHO, **options) -> Watched:
        made.append(Watched(script, **options))
        made[-1].supervisor.start()
        return made[-1]

    yield start
    for watched in made:
        watched.supervisor.close()


def test_frames_go_there_and_back(watch):
    watched = watch()
    watched.until("ready")
    big = {"text": "é" * 2_000_000}
    for frame in ({"a": 1}, big):
        watched.supervisor.send(frame)
        assert watched.frames.get(timeout=30) == {"echo": frame}
    status = watched.supervisor.status()
    assert status["state"] == "ready"
    assert status["rss"] > 1 << 20
    assert psutil.Process(status["pid"]).is_running()


def test_a_dead_child_is_started_again_with_the_reason_told(watch):
    watched = watch()
    watched.until("ready")
    first = watched.supervisor.status()["pid"]
    watched.supervisor.send({"die": True})
    assert "exit code 3" in watched.until("starting")
    watched.until("ready")
    assert watched.supervisor.status()["pid"] != first


def test_an_armed_deadline_kills_and_a_disarmed_one_does_not(watch):
    watched = watch()
    watched.until("ready")
    watched.supervisor.arm(0.2, "too slow")
    watched.supervisor.arm(None)
    watched.supervisor.send({"sleep": 0.5})
    watched.frames.get(timeout=30)
    watched.supervisor.arm(0.2, "too slow")
    start = time.monotonic()
    watched.supervisor.send({"sleep": 60})
    assert "too slow" in watched.until("starting")
    assert time.monotonic() - start < 1.5


def test_a_child_that_never_greets_is_down_after_three_tries(watch):
    watched = watch("import time; time.sleep(60)", start_seconds=0.2)
    assert "did not start within" in watched.until("down")
    assert watched.supervisor.state == "down"


def test_a_child_that_dies_at_once_is_down_and_recovers_when_it_can(watch, tmp_path):
    flag = tmp_path / "fixed"
    watched = watch(
        f"import os\nif not os.path.exists({str(flag)!r}): os._exit(5)\n" + textwrap.dedent(ECHO)
    )
    assert "exit code 5" in watched.until("down")
    flag.touch()
    watched.until("ready")
    watched.supervisor.send({"a": 1})
    assert watched.frames.get(timeout=30) == {"echo": {"a": 1}}
    assert watched.supervisor.status()["reason"] == ""


def test_a_missing_program_is_down_with_its_reason():
    states: queue.Queue = queue.Queue()
    supervisor = Supervisor(
        ["/nowhere/program"],
        name="test",
        on_frame=states.put,
        on_state=lambda *change: states.put(change),
        delays=(0.0,),
    )
    supervisor.start()
    try:
        changes = [states.get(timeout=10) for _ in range(3)]
        assert [state for state, _ in changes] == ["starting", "starting", "down"]
        assert "could not be started" in changes[-1][1]
    finally:
        supervisor.close()


def test_a_first_word_that_is_no_greeting_counts_as_failure(watch):
    watched = watch(ECHO.replace('{"type": "ready"}', '{"type": "hello"}'))
    assert "no handshake" in watched.until("down")


def test_a_frame_the_owner_refuses_kills_the_child(watch):
    def refuse(frame):
        raise BadFrame("not asked for")

    watched = watch(on_frame=refuse)
    watched.until("ready")
    watched.supervisor.send({"a": 1})
    assert "not asked for" in watched.until("starting")


def test_closing_ends_the_process_and_may_be_repeated(watch):
    watched = watch()
    watched.until("ready")
    pid = watched.supervisor.status()["pid"]
    watched.supervisor.close()
    watched.supervisor.close()
    assert not psutil.pid_exists(pid)
    assert watched.supervisor.status() == {"state": "stopped", "reason": "", "pid": None, "rss": 0}
