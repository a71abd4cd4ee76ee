"""Folders for what need not outlive a process: one per process, cleared when it is gone.

Uploads on their way in, exports, pictures and the files of jobs all lie in such folders, so one
rule keeps the disk clean: what is old goes, and what belonged to a dead process goes at once.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

KEPT_SECONDS = 3600.0
"""How long a file may lie in a scratch folder."""


def remove_left_behind(own: Path) -> None:
    """Clears this process's folder and those beside it of processes that are gone."""
    for folder in own.parent.glob("*"):
        running = folder.name.isdecimal() and psutil.pid_exists(int(folder.name))
        if folder == own or not running:
            remove(folder)


def sweep(folder: Path, pattern: str, seconds: float = KEPT_SECONDS) -> int:
    """Removes what matches `pattern` and was not written to for so long; returns how many."""
    oldest = time.time() - seconds
    gone = 0
    for path in folder.glob(pattern):
        try:
            if path.stat().st_mtime < oldest:
                remove(path)
                gone += 1
        except FileNotFoundError:
            continue
    return gone


def remove(path: Path) -> None:
    """Deletes a file, or a folder with all in it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
