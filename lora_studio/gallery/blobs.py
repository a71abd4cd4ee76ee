"""Where stored files live: named by their sha256, whole or absent, never half written.

A file is written beside its place, made read-only, synced, renamed, and its folder synced; what is
acknowledged after that survives a killed process and a power cut.
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


def digest(data: bytes) -> str:
    """The name under which `data` is stored."""
    return hashlib.sha256(data).hexdigest()


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
            sync(root)
            sync(root.parent)

    def path(self, sha: str) -> Path:
        """Where the file with this digest is or would be."""
        return self.root / sha[:2] / f"{sha}{self._suffix}"

    def put(self, data: bytes) -> str:
        """Stores `data` durably and returns its sha256. Storing it again changes nothing.

        Raises:
            StorageFull: there is no room; nothing is left in the staging folder.
        """
        sha = digest(data)
        place = self.path(sha)
        with storage_errors():
            if self.intact(sha):
                os.utime(place)
            else:
                self._write(data, place)
            for path in (place, place.parent, self.root):
                sync(path)
        return sha

    def _write(self, data: bytes, place: Path) -> None:
        temporary = self._staging / uuid4().hex
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                if os.name != "nt":  # where a read-only file could not be replaced or removed
                    os.fchmod(file.fileno(), 0o444)
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

    def remove(self, sha: str) -> None:
        """Deletes the file with this digest, if it is there."""
        with storage_errors():
            self.path(sha).unlink(missing_ok=True)

    def sweep(self, keep: Collection[str], grace_seconds: float, *, alone: bool = False) -> int:
        """Deletes temporary files and files not in `keep` older than the grace; returns how many.

        The caller holds the writer lock, so no file is between its rename and its commit.

        Args:
            alone: nobody else writes here, so temporary files of any age are left-overs.
        """
        oldest = time.time() - grace_seconds
        gone = 0
        for path in self.strays(keep):
            try:
                left = alone and path.parent == self._staging
                if left or path.stat().st_mtime <= oldest:
                    path.unlink()
                    gone += 1
            except FileNotFoundError:
                continue
        if gone:
            log.info("removed %d files that no adapter refers to", gone)
        return gone

    def strays(self, keep: Collection[str]) -> Iterator[Path]:
        """Temporary files, and files whose digest is not in `keep`."""
        yield from (path for path in self._staging.iterdir() if path.is_file())
        for folder in self.root.iterdir():
            if folder.is_dir() and folder != self._staging:
                yield from (
                    path
                    for path in folder.iterdir()
                    if path.suffix == self._suffix and path.stem not in keep
                )


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, survive a power cut."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
