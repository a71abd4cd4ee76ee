"""What a job is, the events it yields, and what its handler is given. Loads nothing heavy."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lora_studio import errors
from lora_studio.errors import Cancelled, LoraStudioError, WorkerFailed
from lora_studio.refusals import MEANINGS

Lane = Literal["light", "model", "figures", "reader"]

Event = dict[str, Any]
"""{"type": "queued", "position"} | {"type": "started"} | {"type": "progress", "fraction" (0..1 or
None), "message"} | {"type": "data", ...} | and last one of {"type": "done", "result"},
{"type": "error", "message", "code", "refusal"}, {"type": "cancelled"}."""

LAST = frozenset({"done", "error", "cancelled"})


@dataclass(frozen=True)
class Job:
    """A request to a worker.

    Args:
        kind: name of the task that handles it.
        args: JSON-able arguments; large values are given as file paths.
        lane: "light" for short work without a base model, "model" for what needs one, "figures" for
            verdicts, which must wait for neither, "reader" for what looks into untrusted files: a
            confined process that does one job and ends.
        deadline: seconds it may take once started; None is the worker's default.
    """

    kind: str
    args: dict[str, Any]
    lane: Lane
    deadline: float | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


class JobHandle:
    """The caller's end of a job. Iterating yields its events from the first to the last; several
    iterations, also from several threads, each see all of them."""

    def __init__(self, job: Job, cancel: Callable[[JobHandle], None]) -> None:
        self.job = job
        self._cancel = cancel
        self._last = False
        self._events: list[Event] = []
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Event]:
        seen = 0
        while True:
            with self._changed:
                while len(self._events) <= seen:
                    self._changed.wait()
                event = self._events[seen]
            seen += 1
            yield event
            if event["type"] in LAST:
                return

    @property
    def finished(self) -> bool:
        """Whether the last event is there."""
        return self._last

    @property
    def latest(self) -> Event | None:
        """The event that came last, if there is one."""
        with self._changed:
            return self._events[-1] if self._events else None

    def publish(self, event: Event) -> None:
        """For workers: adds an event; nothing follows a last one."""
        with self._changed:
            if not self._last:
                self._last = event["type"] in LAST
                self._events.append(event)
                self._changed.notify_all()

    def cancel(self) -> None:
        """Asks for the job to stop; it ends with "cancelled" unless it ended before."""
        self._cancel(self)

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Waits for the end and gives the result.

        Raises:
            TimeoutError: not finished within `timeout` seconds; the job goes on.
            Cancelled, WorkerFailed, LoraStudioError: it ended otherwise.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._last, timeout):
                raise TimeoutError(f"{self.job.kind} has not finished within {timeout} s")
            last = self._events[-1]
        if last["type"] == "done":
            return last["result"]
        raise as_error(last)


def error_event(error: LoraStudioError) -> Event:
    """The "error" event that stands for an error."""
    refusal = getattr(error, "refusal", "")
    code = type(error).__name__
    return {"type": "error", "message": str(error), "code": code, "refusal": refusal}


def as_error(event: Event) -> LoraStudioError:
    """The error that an "error" or "cancelled" event stands for."""
    if event["type"] == "cancelled":
        return Cancelled("The job was cancelled.")
    kind, message = _error_class(str(event.get("code"))), str(event["message"])
    refusal = event.get("refusal")
    if issubclass(kind, errors.InvalidAdapter) and refusal in MEANINGS:
        return kind(message, refusal)
    return kind(message)


def _error_class(code: str) -> type[LoraStudioError]:
    known = getattr(errors, code, None)
    if isinstance(known, type) and issubclass(known, LoraStudioError):
        return known
    return WorkerFailed


class Worker(Protocol):
    """Runs jobs somewhere."""

    def submit(self, job: Job) -> JobHandle:
        """Takes a job; never blocks for long."""
        ...

    def status(self) -> dict[str, Any]:
        """State of each lane."""
        ...

    def close(self) -> None:
        """Ends all jobs and processes."""
        ...


@dataclass
class JobContext:
    """What a handler is given beside its arguments.

    Args:
        emit: sends a "data" event with these fields.
        report: sends progress; see `progress`.
        cancelled: whether the caller asked to stop.
        scratch: a folder of this job for files it hands back; swept about an hour later.
        state: kept between the jobs of one child (loaded models). A function under "status" gives
            facts for the lane's status.
    """

    emit: Callable[[dict[str, Any]], None]
    report: Callable[[float | None, str], None]
    cancelled: Callable[[], bool]
    scratch: Path
    state: dict[str, Any] = field(default_factory=dict)

    def progress(self, fraction: float | None, message: str) -> None:
        """How far the job is, 0..1 or None if unknown, in words for people."""
        self.report(fraction, message)

    def check(self) -> None:
        """Raises Cancelled if the caller asked to stop; call it between steps."""
        if self.cancelled():
            raise Cancelled("The job was cancelled.")
