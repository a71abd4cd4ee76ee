"""A copy of a gallery as a thing on the disk: a folder or a zip of named files and a manifest.

The manifest names every file with its digest and size, and its own digest too; nothing else in a
copy is ever looked at. A copy appears under its name whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from lora_studio.errors import InvalidRequest, LoraStudioError
from lora_studio.gallery.blobs import sync
from lora_studio.gallery.failures import storage_errors

MANIFEST = "manifest.json"
FORMAT = "lora-studio-backup-1"

_NAME = re.compile(
    r"gallery\.sqlite|(blobs|thumbnails)/[0-9a-f]{2}/[0-9a-f]{64}\.(safetensors|png)"
    r"|fitted/[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.safetensors"
)
_MAX_MANIFEST = 512 * 1024 * 1024
_CHUNK = 1024 * 1024


def is_named(name: str) -> bool:
    """Whether a copy may hold a file of this name."""
    return _NAME.fullmatch(name) is not None


class DamagedCopy(LoraStudioError):
    """A copy that is not what its manifest says, or has none."""


class CopyWriter:
    """Writes one copy; use `writing`."""

    def __init__(self, partial: Path, zipped: bool) -> None:
        self._folder = partial
        self._zip = zipfile.ZipFile(partial, "x", zipfile.ZIP_STORED) if zipped else None
        if not zipped:
            partial.mkdir()
        self._files: dict[str, tuple[str, int]] = {}

    def put(self, name: str, path: Path) -> str:
        """Copies a file in under `name`; returns the digest of what was copied."""
        with path.open("rb") as source, self._open(name) as out:
            self._files[name] = _copy(source, out)
        return self._files[name][0]

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        if self._zip is not None:
            with self._zip.open(name, "w", force_zip64=True) as out:
                yield out
            return
        place = self._folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())

    def finish(self, facts: dict[str, Any]) -> None:
        """Writes the manifest and makes all of it durable."""
        manifest = {"format": FORMAT, **facts, "files": self._files}
        text = json.dumps({**manifest, "sha256": _seal(manifest)}, indent=1)
        with self._open(MANIFEST) as out:
            out.write(text.encode())
        if self._zip is not None:
            self._zip.close()
            sync(self._folder)
        else:
            for folder in (self._folder, *(p for p in self._folder.rglob("*") if p.is_dir())):
                sync(folder)

    def close(self) -> None:
        """Lets go of the files; what was not finished is of no use."""
        if self._zip is not None:
            with contextlib.suppress(OSError, ValueError):  # it tries to write its directory
                self._zip.close()


@contextmanager
def writing(target: Path) -> Iterator[CopyWriter]:
    """A copy that is at `target` (a zip if it ends in .zip, else a folder) once the block ends.

    Raises:
        InvalidRequest: there is something at `target`.
        StorageFull: no room; nothing is left behind.
    """
    if target.exists():
        raise InvalidRequest(f"There is something at {target} already. Name another place.")
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    writer: CopyWriter | None = None
    with storage_errors():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = CopyWriter(partial, target.suffix == ".zip")
            yield writer
            os.rename(partial, target)
            sync(target.parent)
        finally:
            if writer is not None:
                writer.close()
            _remove(partial)


class Copy:
    """A copy that is there, its manifest read and its digest compared. A context manager.

    Args:
        facts: what the manifest says.
        files: name -> (sha256, bytes).

    Raises:
        DamagedCopy: it is none, or its manifest is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        try:
            if path.is_file():
                self._zip = zipfile.ZipFile(path)
            with self._open(MANIFEST) as file:
                text = file.read(_MAX_MANIFEST)
            self.facts: dict[str, Any] = json.loads(text)
            seal = self.facts.pop("sha256")
            listed = self.facts["files"].items()
            self.files = {str(name): (str(sha), int(size)) for name, (sha, size) in listed}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as e:
            self.close()
            raise DamagedCopy(f"{path} is not a whole backup of LoRA Studio: {e}") from e
        if self.facts.get("format") != FORMAT or seal != _seal(self.facts):
            self.close()
            raise DamagedCopy(f"The manifest of {path} is damaged or from a newer LoRA Studio.")
        if strange := [name for name in self.files if not is_named(name)]:
            self.close()
            raise DamagedCopy(f"{path} holds a file that no gallery has: {strange[0][:80]!r}.")

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the zip."""
        if self._zip is not None:
            self._zip.close()

    def damaged(self) -> list[str]:
        """Names of files that are missing or altered."""
        found = []
        for name in self.files:
            try:
                with open(os.devnull, "wb") as nowhere:
                    self._take(name, nowhere)
            except DamagedCopy:
                found.append(name)
        return found

    def take(self, name: str, place: Path) -> None:
        """Writes a file of the copy to `place`, durably, once its digest proved right.

        Raises:
            DamagedCopy: it is missing or altered; nothing useful is at `place`.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            self._take(name, out)
            out.flush()
            if os.name != "nt" and name.startswith(("blobs/", "thumbnails/")):  # never to change
                os.fchmod(out.fileno(), 0o444)
            os.fsync(out.fileno())

    def _take(self, name: str, out: BinaryIO) -> None:
        try:
            with self._open(name) as source:
                found = _copy(source, out, self.files[name][1] + 1)
        except (KeyError, FileNotFoundError, zipfile.BadZipFile, EOFError, NotImplementedError):
            found = None
        if found != self.files[name]:
            raise DamagedCopy(f"{name} is missing or altered in {self._path}.")

    def _open(self, name: str) -> Any:
        return self._zip.open(name) if self._zip is not None else (self._path / name).open("rb")


def _copy(source: Any, out: Any, limit: int | None = None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while (limit is None or size < limit) and (piece := source.read(_CHUNK)):
        digest.update(piece)
        size += len(piece)
        out.write(piece)
    return digest.hexdigest(), size


def _seal(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
