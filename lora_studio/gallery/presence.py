"""Who has a gallery open: a shared lock that the kernel drops when a process dies, however it dies.

Whoever holds it alone knows that every half-written file was left by someone who is gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from lora_studio.errors import LoraStudioError
from lora_studio.gallery.failures import storage_errors


class Presence:
    """A mark on one data folder that this process uses its gallery.

    Args:
        folder: the data folder; the lock lies beside the gallery, so that the gallery can be
            replaced while it is held.
        only: refuse to share it, for what replaces a gallery.

    Raises:
        LoraStudioError: `only` was asked for and someone else has the gallery open.
    """

    def __init__(self, folder: Path, *, only: bool = False) -> None:
        self.alone = self._others = False
        with storage_errors():
            self._handle = os.open(folder / "gallery.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self.alone = self._lock(exclusive=True)
        if only and self._others:
            self.close()
            raise LoraStudioError(
                f"A running LoRA Studio uses the gallery in {folder}. Stop it and try again."
            )
        if not self.alone:
            self._lock(exclusive=False)

    def share(self) -> None:
        """Lets others open the gallery too, who waited until now."""
        self._lock(exclusive=False)
        self.alone = False

    def close(self) -> None:
        """Takes the mark away."""
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def _lock(self, *, exclusive: bool) -> bool:
        if fcntl is None:
            return False
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        except BlockingIOError:
            self._others = True
            return False
        except OSError:  # a file system without locks: nobody is known to be alone, nor not to be
            return False
        return True


@contextlib.contextmanager
def using(folder: Path) -> Iterator[None]:
    """Keeps the gallery in a data folder from being replaced while the block runs."""
    presence = Presence(folder)
    presence.share()
    try:
        yield
    finally:
        presence.close()
