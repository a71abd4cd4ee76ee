"""A piece of work made of several jobs, looking from outside like one job."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from lora_studio.errors import Cancelled, LoraStudioError, WorkerFailed
from lora_studio.worker.job import LAST, Event, Job, JobHandle, Worker, as_error, error_event

Steps = Generator[Event, None, dict[str, Any]]


class Flow:
    """Runs `steps` while it is iterated; has the events and the interface of a JobHandle.

    Args:
        worker: where the jobs go.
        steps: given this flow; yields events, returns the result. Use `yield from flow.run(job)`.
    """

    def __init__(self, worker: Worker, steps: Callable[[Flow], Steps]) -> None:
        self._worker = worker
        self._steps = steps
        self._handle: JobHandle | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[Event]:
        try:
            result = yield from self._steps(self)
            yield {"type": "done", "result": result}
        except Cancelled:
            yield {"type": "cancelled"}
        except LoraStudioError as error:
            yield error_event(error)

    def cancel(self) -> None:
        """Stops the running job and starts no further one."""
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel()

    @property
    def worker(self) -> Worker:
        """Where the jobs go."""
        return self._worker

    def check(self) -> None:
        """For steps between jobs: raises Cancelled once the flow has been cancelled."""
        if self._cancelled:
            raise Cancelled("The job was cancelled.")

    def result(self) -> dict[str, Any]:
        """Runs to the end and returns the result; raises what went wrong."""
        for event in self:
            if event["type"] == "done":
                return event["result"]
            if event["type"] in LAST:
                raise as_error(event)
        raise WorkerFailed("The job ended without a result. Try again.")

    def run(self, job: Job) -> Steps:
        """Submits a job, passes its events on, and returns its result."""
        self.check()
        self._handle = handle = self._worker.submit(job)
        try:
            self.check()
            for event in handle:
                if event["type"] == "done":
                    return event["result"]
                if event["type"] in LAST:
                    raise as_error(event)
                yield event
        finally:
            if not handle.finished:
                handle.cancel()
            self._handle = None
        raise WorkerFailed("The worker ended without a result. Try again.")


def changed(steps: Steps, change: Callable[[Event], Event]) -> Steps:
    """The same steps with every event passed through `change`."""
    try:
        while True:
            try:
                event = next(steps)
            except StopIteration as stop:
                return stop.value
            yield change(event)
    finally:
        steps.close()
