"""One lane: a queue of jobs in front of one supervised child, which does one job at a time. Decides
what a death means: the job in hand fails, a job not yet begun is tried once more, the rest wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_studio.frames import BadFrame, Frame
from lora_studio.supervisor import START_SECONDS, State, Supervisor
from lora_studio.worker.job import LAST, Event, Job, JobHandle

log = logging.getLogger(__name__)

ACCEPT_SECONDS = 30.0
CANCEL_SECONDS = 10.0


@dataclass(eq=False)
class _Task:
    handle: JobHandle
    started: bool = False
    retried: bool = False
    cancelling: bool = False
    position: int = -1
    ends: float = float("inf")


class Lane:
    """Runs jobs one after another in one child.

    Args:
        name: "light", "model", "figures" or "reader".
        argv, env: the child, see Supervisor.
        deadline: seconds a job may take, unless it says otherwise.
        accept_seconds: time for the child to begin a job it was sent.
        cancel_seconds: time for a cancelled job to stop by itself before the child is killed.
        once: whether the child ends by itself after each job.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        deadline: float,
        start_seconds: float = START_SECONDS,
        accept_seconds: float = ACCEPT_SECONDS,
        cancel_seconds: float = CANCEL_SECONDS,
        once: bool = False,
    ) -> None:
        self.name, self.deadline = name, deadline
        self.accept_seconds, self.cancel_seconds = accept_seconds, cancel_seconds
        self._once = once
        self._lock = threading.RLock()
        self._waiting: deque[_Task] = deque()
        self._current: _Task | None = None
        self._facts: dict[str, Any] = {}
        self._ready = self._closed = False
        self.supervisor = Supervisor(
            argv,
            name=f"{name} worker",
            env=env,
            on_frame=self._on_frame,
            on_state=self._on_state,
            start_seconds=start_seconds,
        )

    def start(self) -> None:
        """Starts the child; a submission does so too."""
        self.supervisor.start()

    def submit(self, job: Job) -> JobHandle:
        """Queues a job; it fails at once while the child cannot be started."""
        task = _Task(JobHandle(job, self._cancel))
        with self._lock:
            refusal = self._refusal()
            if refusal:
                self._fail(task, refusal)
                return task.handle
            self._waiting.append(task)
            self._pump()
        self.supervisor.start()
        return task.handle

    def status(self) -> dict[str, Any]:
        """State "stopped", "starting", "ready", "busy" or "down"; the job's kind; jobs waiting;
        rss in bytes; pid; and what the child last told of itself."""
        process = self.supervisor.status()
        with self._lock:
            current = self._current
            busy = current is not None and process["state"] == "ready"
            return {
                **self._facts,
                **process,
                "state": "busy" if busy else process["state"],
                "job": current.handle.job.kind if current else None,
                "queued": len(self._waiting),
            }

    def close(self) -> None:
        """Kills the child; jobs not finished fail."""
        with self._lock:
            self._closed = True
        self.supervisor.close()
        self._on_state("stopped", "the studio is closing")

    def _pump(self) -> None:
        """Sends the next job if the child is free, and tells the others their places."""
        while self._ready and self._current is None and self._waiting:
            task = self._current = self._waiting.popleft()
            job = task.handle.job
            self.supervisor.arm(self.accept_seconds, "it did not begin the job")
            try:
                self.supervisor.send(
                    {"type": "job", "id": job.id, "kind": job.kind, "args": job.args}
                )
            except BadFrame as error:
                self._finish(task)
                log.warning("job %s cannot be sent: %s", job.kind, error)
                self._fail(task, "The request is too large to be sent. Use fewer rows or texts.")
        ahead = 0 if self._current is None else 1
        for place, task in enumerate(self._waiting, start=ahead):
            if task.position != place:
                task.position = place
                task.handle.publish({"type": "queued", "position": place})

    def _on_frame(self, frame: Frame) -> None:
        with self._lock:
            task = self._current
            if task is None or frame.get("id") != task.handle.job.id:
                raise BadFrame("it concerns no job in hand")
            event = _event(frame)
            if event["type"] == "started":
                task.started = True
                seconds = task.handle.job.deadline or self.deadline
                task.ends = time.monotonic() + seconds
                if not task.cancelling:
                    self.supervisor.arm(seconds, f"it took longer than {seconds:g} s")
            if event["type"] in LAST:
                self._facts = frame.get("status") or {}
                self._ready = self._ready and not self._once
                self._finish(task)
            task.handle.publish(event)
            self._pump()

    def _on_state(self, state: State, reason: str) -> None:
        with self._lock:
            self._ready = state == "ready"
            if not self._ready:
                self._facts = {}
                if self._current is not None:
                    self._bereave(self._current, reason)
                refusal = self._refusal()
                while refusal and self._waiting:
                    self._fail(self._waiting.popleft(), refusal)
            self._pump()

    def _bereave(self, task: _Task, reason: str) -> None:
        """The child died with this job in hand."""
        self._finish(task)
        if self._closed:
            self._fail(task, self._refusal())
        elif task.cancelling:
            task.handle.publish({"type": "cancelled"})
        elif task.started or task.retried:
            self._fail(
                task,
                f"The {self.name} worker stopped during this job: {reason}. Nothing else is lost; "
                "it is being started again. Try once more; if it happens again, ask for less.",
            )
        else:
            task.retried, task.position = True, -1
            self._waiting.appendleft(task)

    def _refusal(self) -> str:
        """Why no job can be taken now, or nothing."""
        if self._closed:
            return "The studio is closing."
        if self.supervisor.state != "down":
            return ""
        return (
            f"The {self.name} worker cannot be started: {self.supervisor.reason}. It is tried "
            "again every half minute; the server's log says more."
        )

    def _fail(self, task: _Task, message: str) -> None:
        task.handle.publish({"type": "error", "message": message, "code": "WorkerFailed"})

    def _finish(self, task: _Task) -> None:
        if self._current is task:
            self._current = None
            self.supervisor.arm(None)

    def _cancel(self, handle: JobHandle) -> None:
        with self._lock:
            current = self._current
            if current is not None and current.handle is handle:
                if not current.cancelling:
                    current.cancelling = True
                    left = max(0.0, current.ends - time.monotonic())
                    self.supervisor.arm(min(left, self.cancel_seconds), "it did not stop")
                    self.supervisor.send({"type": "cancel", "id": handle.job.id})
                return
            for task in list(self._waiting):
                if task.handle is handle:
                    self._waiting.remove(task)
                    handle.publish({"type": "cancelled"})
            self._pump()


def _event(frame: Frame) -> Event:
    """The event a frame stands for; raises BadFrame for what a child must not say."""
    kind = frame.get("type")
    fraction = frame.get("fraction")
    if kind == "started" or kind == "cancelled":
        return {"type": kind}
    if kind == "progress" and (fraction is None or isinstance(fraction, int | float)):
        share = None if fraction is None else min(1.0, max(0.0, float(fraction)))
        return {"type": kind, "fraction": share, "message": str(frame.get("message", ""))}
    if kind == "data" and isinstance(frame.get("data"), dict):
        return {**frame["data"], "type": kind}
    if kind == "done" and isinstance(frame.get("result"), dict):
        return {"type": kind, "result": frame["result"]}
    if kind == "error":
        text = {name: str(frame.get(name, "")) for name in ("message", "code", "refusal")}
        return {"type": kind, **text}
    raise BadFrame(f"a frame of type {str(kind)[:40]!r} that cannot be read")
