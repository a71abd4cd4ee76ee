"""Keeps a studio that runs for months small: abandoned uploads and the files of old jobs go after
an hour, what deleted adapters leave after its grace, and freed memory goes back to the system."""

from __future__ import annotations

import logging
import threading

from lora_studio import heaps, scratch
from lora_studio.errors import LoraStudioError
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings

log = logging.getLogger(__name__)

EVERY = 300.0
"""Seconds between two rounds."""

TIDY_ROUNDS = 12
"""Every so many rounds the gallery is looked through too."""


class Janitor:
    """A thread that clears up until it is closed."""

    def __init__(self, settings: Settings, gallery: Gallery) -> None:
        self._settings = settings
        self._gallery = gallery
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="janitor", daemon=True)

    def start(self) -> None:
        """Clears what dead processes left, then begins its rounds."""
        scratch.remove_left_behind(self._settings.uploads_dir)
        self._thread.start()

    def close(self) -> None:
        """Ends, and removes the uploads that nobody came back for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        scratch.remove(self._settings.uploads_dir)

    def round(self) -> int:
        """Removes what is old; returns how many files or folders."""
        gone = scratch.sweep(self._settings.uploads_dir, "*")
        gone += scratch.sweep(self._settings.scratch_dir, "*/*")
        if gone:
            log.info("removed %d abandoned uploads and files of old jobs", gone)
        return gone

    def _loop(self) -> None:
        rounds = 0
        while not self._stop.wait(EVERY):
            rounds += 1
            try:
                self.round()
                heaps.give_back()
                if rounds % TIDY_ROUNDS == 0:
                    self._gallery.tidy()
            except (LoraStudioError, OSError) as error:
                log.warning("clearing up has to wait: %s", error)
