"""How a job of the studio becomes states of a page: progress, result, error, stop.

A state is the value of a `job` island: {"state", "fraction", "message", "error", ...}.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from lora_studio.errors import LoraStudioError

log = logging.getLogger(__name__)

UNKNOWN_ERROR = "Something went wrong inside the studio. Try again; its log has the details."
_YIELD_EVERY = 0.12  # seconds between two updates of a page while tokens stream
_serial = itertools.count(1)

State = dict[str, Any]


def state(name: str, **more: Any) -> State:
    """A job state; `serial` makes every state differ from the one before."""
    return {"state": name, "serial": next(_serial), **more}


class Jobs:
    """The running jobs of all visitors, at most one per visitor and slot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], Any] = {}

    def stop(self, session: str | None, slot: str | None = None) -> None:
        """Cancels the job of a visitor in `slot`, or all of that visitor's jobs."""
        with self._lock:
            found = [
                handle
                for (owner, name), handle in self._running.items()
                if owner == session and slot in (None, name)
            ]
        for handle in found:
            handle.cancel()

    def stream(
        self, request: gr.Request | None, slot: str, submit: Callable[[], Any]
    ) -> Iterator[tuple[State, dict[str, Any] | None]]:
        """Runs a job and yields (state, payload): payload is None, {"cells": ...} or {"result"}.

        Starting a job stops the visitor's earlier one in the same slot. Leaving the generator
        early, for whatever reason, cancels the job.
        """
        session = request.session_hash if request else None
        key = (session or "", slot)
        self.stop(session, slot)
        handle = None
        try:
            handle = submit()
            with self._lock:
                self._running[key] = handle
            yield from states(handle)
        except LoraStudioError as error:
            yield state("error", error=str(error)), None
        except Exception:
            log.exception("unforeseen error in a job of a page")
            yield state("error", error=UNKNOWN_ERROR), None
        finally:
            with self._lock:
                if handle is not None and self._running.get(key) is handle:
                    del self._running[key]
            if handle is not None:
                handle.cancel()


def states(handle: Any) -> Iterator[tuple[State, dict[str, Any] | None]]:
    """The events of a job as (state, payload), thinned out while tokens stream."""
    started = time.monotonic()
    last_yield = 0.0
    cells: dict[tuple[int, int], dict[str, Any]] = {}
    message, fraction = "Working", None
    for event in handle:
        kind = event.get("type")
        if kind == "queued":
            yield state("queued", position=event.get("position")), None
            continue
        if kind == "done":
            seconds = time.monotonic() - started
            yield state("done", seconds=round(seconds, 2)), {"result": event.get("result") or {}}
            return
        if kind == "error":
            error = str(event.get("message") or UNKNOWN_ERROR)
            yield state("error", error=error, code=str(event.get("refusal") or "")), None
            return
        if kind == "cancelled":
            yield state("stopped"), None
            return
        if kind == "progress":
            message = str(event.get("message") or message)
            fraction = event.get("fraction")
        if any("text" in cell for cell in event.get("cells") or ()):
            message, fraction = "Answering", None
        for cell in event.get("cells") or ():
            cells[cell["prompt"], cell["column"]] = cell
        if time.monotonic() - last_yield >= _YIELD_EVERY:
            last_yield = time.monotonic()
            yield (
                state("running", message=message, fraction=fraction),
                {"cells": list(cells.values())} if cells else None,
            )
    yield state("error", error=UNKNOWN_ERROR), None
