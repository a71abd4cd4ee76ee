"""A function that can be left in the middle and gone on with, so that several passes through a
model move forward side by side, one layer at a time, with only one of them at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import torch

ENDED = object()
"""What `resume` returns when the function has run to its end."""


class _Left(BaseException):
    """Unwinds a function that nobody will go on with."""


class Pausing:
    """A function in a thread of its own, at work only while somebody waits in `resume`.

    Args:
        body: called with `pause`; pause(value) hands a value to whoever resumed and waits for the
            next `resume`. Runs in inference mode.
    """

    def __init__(self, body: Callable[[Callable[[Any], None]], None]) -> None:
        self._body = body
        self._go: SimpleQueue[bool] = SimpleQueue()
        self._said: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._threads = torch.get_num_threads()
        self._thread: threading.Thread | None = None

    def resume(self) -> Any:
        """The next value of `pause`, or ENDED; raises what the function raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        else:
            self._go.put(True)
        value, error = self._said.get()
        if error is not None:
            raise error
        return value

    def leave(self) -> None:
        """Unwinds the function if it waits, and ends its thread."""
        if self._thread is not None and self._thread.is_alive():
            self._go.put(False)
            self._thread.join()

    def _work(self) -> None:
        torch.set_num_threads(self._threads)  # new threads have the machine's number otherwise
        try:
            with torch.inference_mode():
                self._body(self._pause)
        except _Left:
            return
        except BaseException as error:  # noqa: BLE001  (raised again by `resume`)
            self._said.put((None, error))
        else:
            self._said.put((ENDED, None))

    def _pause(self, value: Any) -> None:
        self._said.put((value, None))
        if not self._go.get():
            raise _Left
