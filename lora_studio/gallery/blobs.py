"""Where stored files live: named by their sha256, whole or absent, never half written.

A file is written beside its place, synced, renamed, and its folder synced; what is acknowledged
after that survives a killed process and a power cut.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from uuid import uuid4

from lora_studio.gallery.failures import storage_errors

log = logging.getLogger(__name__)

WEIGHTS = ".safetensors"
PICTURES = ".png"


class BlobStore:
    """Content-addressed files under one folder.

    Args:
        root: folder of the files; temporary files stay on the same file system, in root/tmp.
        suffix: ending of every file.
    """

    def __init__(self, root: Path, suffix: str = WEIGHTS) -> None:
        self.root = root
        self._suffix = suffix
        self._staging = root / "tmp"
        with storage_errors():
            self._staging.mkdir(parents=True, exist_ok=True)

    def path(self, sha: str) -> Path:
        """Where the file with this digest is or would be."""
        return self.root / sha[:2] / f"{sha}{self._suffix}"

    def put(self, data: bytes) -> str:
        """Stores `data` durably and returns its sha256. Storing it again changes nothing.

        Raises:
            StorageFull: there is no room; nothing is left behind.
        """
        sha = hashlib.sha256(data).hexdigest()
        place = self.path(sha)
        with storage_errors():
            if self.intact(sha):
                os.utime(place)
            else:
                self._write(data, place)
            _sync(place)
            _sync(place.parent)
            _sync(self.root)
        return sha

    def _write(self, data: bytes, place: Path) -> None:
        temporary = self._staging / uuid4().hex
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            place.parent.mkdir(exist_ok=True)
            os.replace(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)

    def intact(self, sha: str) -> bool:
        """Whether the file is there and its bytes have this digest."""
        try:
            with self.path(sha).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha
        except FileNotFoundError:
            return False

    def size(self, sha: str) -> int | None:
        """Bytes of the file, or None if it is not there."""
        try:
            return self.path(sha).stat().st_size
        except FileNotFoundError:
            return None

    def sweep(self, keep: Collection[str], grace_seconds: float) -> int:
        """Deletes temporary files and files not in `keep` older than the grace; returns how many.

        The caller holds the writer lock, so no file is between its rename and its commit.
        """
        oldest = time.time() - grace_seconds
        gone = 0
        for path in self._candidates(keep):
            try:
                if path.stat().st_mtime <= oldest:
                    path.unlink()
                    gone += 1
            except FileNotFoundError:
                continue
        if gone:
            log.info("removed %d files that no adapter refers to", gone)
        return gone

    def _candidates(self, keep: Collection[str]) -> Iterator[Path]:
        yield from (path for path in self._staging.iterdir() if path.is_file())
        for folder in self.root.iterdir():
            if folder.is_dir() and folder != self._staging:
                yield from (
                    path
                    for path in folder.iterdir()
                    if path.suffix == self._suffix and path.stem not in keep
                )


def _sync(path: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
