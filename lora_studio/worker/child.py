"""The child's side: reads jobs, runs their handlers one at a time, sends events. Imports no torch
until a job needs it; ends when its pipe closes, so it never outlives the studio."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lora_studio.errors import Cancelled, LoraStudioError
from lora_studio.frames import BadFrame, Frame, child_pipes, encode, read_frame
from lora_studio.limits import Limits
from lora_studio.worker import sandbox
from lora_studio.worker.job import JobContext, error_event
from lora_studio.worker.tasks import handler

log = logging.getLogger(__name__)


class Child:
    """Runs jobs from `reader` and answers on `writer`; `scratch` holds a folder for each job.

    `once`: the process ends after its first job, so that nothing of it is there at the next.
    """

    def __init__(
        self, scratch: Path, reader: BinaryIO, writer: BinaryIO, once: bool = False
    ) -> None:
        self.scratch, self._once = scratch, once
        self._reader, self._writer = reader, writer
        self._state: dict[str, Any] = {}
        self._jobs: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Serves until the pipe closes."""
        threading.Thread(target=self._listen, name="pipe", daemon=True).start()
        self._send({"type": "ready"})
        while True:
            self._do(self._jobs.get())
            if self._once:
                os._exit(0)

    def _listen(self) -> None:
        while True:
            try:
                frame = read_frame(self._reader)
            except (BadFrame, OSError):
                frame = None
            if frame is None:
                os._exit(0)
            if frame.get("type") == "cancel":
                self._cancelled.add(frame["id"])
            else:
                self._jobs.put(frame)

    def _do(self, frame: Frame) -> None:
        job, kind = str(frame["id"]), str(frame["kind"])
        folder = self.scratch / job
        folder.mkdir(parents=True, exist_ok=True)

        def send(event: str, **more: Any) -> None:
            self._send({"type": event, "id": job, **more})

        if self._once:
            sandbox.allow_for(_size(Path(str(frame["args"].get("path")))), Limits.from_env())
        ctx = JobContext(
            emit=lambda data: send("data", data=data),
            report=lambda fraction, message: send("progress", fraction=fraction, message=message),
            cancelled=lambda: job in self._cancelled,
            scratch=folder,
            state=self._state,
        )
        send("started")
        last, error = self._outcome(kind, frame["args"], ctx)
        with contextlib.suppress(OSError):
            folder.rmdir()
        self._cancelled.discard(job)
        last = {"id": job, "status": self._status(), **last}
        try:
            self._send(last)
        except BadFrame as bad:
            log.error("the result of %s cannot be sent: %s", kind, bad)
            text = f"The result of this job cannot be sent ({bad}). Ask for less at once."
            send("error", message=text, code="WorkerFailed")
        if error is not None and "CUDA error" in str(error):
            log.error("the GPU context is broken; this process ends")
            os._exit(3)

    def _outcome(
        self, kind: str, args: Mapping[str, Any], ctx: JobContext
    ) -> tuple[Frame, Exception | None]:
        """The last frame of a job, and what went wrong."""
        try:
            ctx.check()
            return {"type": "done", "result": handler(kind)(dict(args), ctx)}, None
        except Cancelled:
            return {"type": "cancelled"}, None
        except LoraStudioError as error:
            return error_event(error), error
        except MemoryError as error:
            return _error(
                "The worker ran out of memory. Use fewer or smaller adapters, fewer rows, or a "
                "smaller model.",
                "WorkerFailed",
            ), error
        except Exception as error:
            log.exception("job %s failed", kind)
            return _error(
                f"Something went wrong inside '{kind}' ({type(error).__name__}). The details are "
                "in the server's log; please report them if this happens again.",
                "InternalError",
            ), error

    def _status(self) -> dict[str, Any]:
        facts = self._state.get("status")
        return facts() if facts is not None else {}

    def _send(self, frame: Frame) -> None:
        data = memoryview(encode(frame))
        try:
            with self._lock:
                while data:
                    data = data[self._writer.write(data) :]
        except OSError:
            os._exit(1)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _error(message: str, code: str) -> Frame:
    return {"type": "error", "message": message, "code": code}


def main(argv: list[str]) -> None:
    """Entry of `python -m lora_studio.worker.child <lane> <scratch folder>`."""
    lane, scratch = argv
    faulthandler.enable()
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format=f"{lane} worker: %(levelname)s %(message)s"
    )
    reader, writer = child_pipes()
    if lane == "reader":
        sandbox.confine(Limits.from_env())
    Child(Path(scratch), reader, writer, once=lane == "reader").run()


if __name__ == "__main__":
    main(sys.argv[1:])
