"""Keeps one child process alive and speaks with it in length-capped JSON frames over pipes.

Decides how a child is started, when it counts as dead (end of pipe, nonsense, a deadline) and how
soon it is started again. Knows nothing of models or jobs.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import psutil

from lora_studio.frames import PIPES, BadFrame, Frame, FrameBuffer, encode

log = logging.getLogger(__name__)

START_SECONDS = 60.0
WRITE_SECONDS = 20.0
DELAYS = (0.0, 0.5, 2.0, 5.0, 15.0, 30.0)
"""Seconds before start n after n failures in a row."""

DOWN_AFTER = 3
"""Failures in a row after which the child counts as down, though it is tried again."""

_DONE = "its pipe closed"

State = Literal["stopped", "starting", "ready", "down"]


class Supervisor:
    """One child process, started again whenever it dies.

    All callbacks run on the supervisor's own thread, one after another.

    Args:
        argv: command of the child; its first frame must be {"type": "ready"}.
        name: for log lines.
        on_frame: each frame after the handshake; raising BadFrame kills the child.
        on_state: each change of state, with a reason ("" unless something went wrong); "starting"
            follows every death.
        env: environment of the child; None is this process's.
        start_seconds: time for the handshake.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        on_frame: Callable[[Frame], None],
        on_state: Callable[[State, str], None],
        env: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS,
        delays: Sequence[float] = DELAYS,
    ) -> None:
        self.argv, self.name, self.env = list(argv), name, env
        self.start_seconds, self.delays = start_seconds, tuple(delays)
        self.state: State = "stopped"
        self.reason = ""
        self._on_frame, self._on_state = on_frame, on_state
        self._process: subprocess.Popen[bytes] | None = None
        self._write_fd = -1
        self._deadline: tuple[float, str] | None = None
        self._kill_reason = ""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the child and the thread that keeps it; later calls do nothing."""
        with self._lock:
            if self._thread is not None or self._closing.is_set():
                return
            self._thread = threading.Thread(target=self._keep, name=self.name, daemon=True)
            self.state = "starting"
        atexit.register(self.close)
        self._thread.start()

    def send(self, frame: Mapping[str, Any]) -> None:
        """Sends a frame; a child that does not take it is killed. Raises BadFrame for a frame that
        cannot be sent at all."""
        data = memoryview(encode(frame))
        with self._write_lock:
            until = time.monotonic() + WRITE_SECONDS
            while data and self._write_fd >= 0:
                if not _wait(self._write_fd, select.POLLOUT, until - time.monotonic()):
                    self.kill("it stopped reading")
                    return
                try:
                    data = data[os.write(self._write_fd, data) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return

    def arm(self, seconds: float | None, reason: str = "") -> None:
        """Kills the child in `seconds` unless armed anew before; None disarms."""
        self._deadline = None if seconds is None else (time.monotonic() + seconds, reason)

    def kill(self, reason: str) -> None:
        """Kills the child and everything it started; it is started again."""
        with self._lock:
            if self._process is not None:
                self._kill_reason = self._kill_reason or reason
                _kill_group(self._process.pid)

    def status(self) -> dict[str, Any]:
        """{"state", "reason", "pid", "rss"}; rss in bytes, 0 if there is no process."""
        process = self._process
        pid = process.pid if process is not None else None
        return {"state": self.state, "reason": self.reason, "pid": pid, "rss": _rss(pid)}

    def close(self) -> None:
        """Kills the child for good and waits for the thread."""
        self._closing.set()
        self.kill("the studio is closing")
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)
        atexit.unregister(self.close)

    def _keep(self) -> None:
        failures = 0
        while not self._closing.is_set():
            heard, reason = self._live()
            if self._closing.is_set():
                break
            failures = 0 if heard else failures + 1
            down = failures >= DOWN_AFTER
            level = logging.WARNING if failures or reason != _DONE else logging.DEBUG
            log.log(level, "%s ended: %s (failures in a row: %d)", self.name, reason, failures)
            self._change("down" if down else "starting", reason)
            self._closing.wait(self.delays[min(failures, len(self.delays) - 1)])
        self._change("stopped", "")

    def _live(self) -> tuple[bool, str]:
        """One life of the child: whether it said anything after the handshake, and how it ended."""
        self._kill_reason = ""
        try:
            process, read_fd = self._spawn()
        except OSError as error:
            return False, f"it could not be started ({error})"
        heard = False
        buffer = FrameBuffer()
        reason = ""
        try:
            while not reason:
                data = self._read(read_fd)
                for frame in buffer.feed(data) if data else ():
                    heard = self._handle(frame) or heard
                if not data:
                    reason = _DONE
                    _await_exit(process.pid)
        except _Overdue as late:
            reason = str(late)
        except BadFrame as error:
            reason = f"it sent something that is no answer ({error})"
        self._bury(process, read_fd)
        return heard, self._kill_reason or reason + _exit_note(process.returncode)

    def _handle(self, frame: Frame) -> bool:
        if self.state != "ready":
            if frame.get("type") != "ready":
                raise BadFrame("no handshake")
            self.arm(None)
            self._change("ready", "")
            return False
        self._on_frame(frame)
        return True

    def _spawn(self) -> tuple[subprocess.Popen[bytes], int]:
        child_read, write_fd = os.pipe()
        read_fd, child_write = os.pipe()
        env = {
            **(os.environ if self.env is None else self.env),
            PIPES: f"{child_read},{child_write}",
        }
        try:
            process = subprocess.Popen(
                self.argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(child_read, child_write),
                start_new_session=True,
            )
        except OSError:
            os.close(write_fd)
            os.close(read_fd)
            raise
        finally:
            os.close(child_read)
            os.close(child_write)
        os.set_blocking(write_fd, False)
        os.set_blocking(read_fd, False)
        with self._lock:
            self._process = process
        with self._write_lock:
            self._write_fd = write_fd
        if self._closing.is_set():
            _kill_group(process.pid)
        self.arm(self.start_seconds, f"it did not start within {self.start_seconds:.0f} s")
        return process, read_fd

    def _read(self, read_fd: int) -> bytes:
        """Some bytes, b"" at the end of the pipe; raises _Overdue at the deadline."""
        while True:
            deadline = self._deadline
            left = 0.25 if deadline is None else min(0.25, deadline[0] - time.monotonic())
            if left <= 0 and deadline is not None and deadline is self._deadline:
                raise _Overdue(deadline[1])
            if _wait(read_fd, select.POLLIN, left):
                return os.read(read_fd, 1 << 20)

    def _bury(self, process: subprocess.Popen[bytes], read_fd: int) -> None:
        self.arm(None)
        with self._lock:
            self._process = None
            _kill_group(process.pid)  # before it is reaped, so the number cannot be another's
        process.wait()
        with self._write_lock:
            os.close(self._write_fd)
            self._write_fd = -1
        os.close(read_fd)

    def _change(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        self._on_state(state, reason)


class _Overdue(Exception):
    """The armed deadline passed."""


def _wait(fd: int, event: int, seconds: float) -> bool:
    """Whether the pipe is ready, or closed, within `seconds`."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _await_exit(pid: int, seconds: float = 0.5) -> None:
    """Lets a process that closed its pipe end by itself, so that its own exit code is told."""
    until = time.monotonic() + seconds
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.01)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
            return
        except (ProcessLookupError, PermissionError):
            continue


def _exit_note(code: int | None) -> str:
    if code is None or code == 0:
        return ""
    if code < 0:
        return f" (signal {signal.Signals(-code).name})"
    return f" (exit code {code})"


def _rss(pid: int | None) -> int:
    try:
        return psutil.Process(pid).memory_info().rss if pid is not None else 0
    except psutil.Error:
        return 0
