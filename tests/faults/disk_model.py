"""A disk that forgets what was not synced, fed with the system calls of a real process.

Reads the output of `strace -f -y -xx`, keeps for every file what was written and what is safe, and
lays out what a power cut at any moment may leave: nothing unsynced, or any part of it.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,unlink,ftruncate,mkdir,close"

_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"(?<![\w.])(\d+)<((?:\\x[0-9a-f]{2})*)>")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass(frozen=True)
class Event:
    """One system call: its name, the paths and bytes it was given, its last number."""

    call: str
    paths: tuple[str, ...]
    data: bytes
    number: int
    handle: int
    flags: str


def events(trace: Path) -> Iterator[Event]:
    """The calls of a trace that succeeded, in their order."""
    with trace.open() as lines:
        for line in lines:
            match = _LINE.match(line)
            if not match:
                assert "unfinished" not in line, "the traced process has threads"
                continue
            call, inside, result = match.group(1), match.group(2), int(match.group(3))
            if result < 0:
                continue
            texts = [_bytes(text) for text in _TEXT.findall(inside)]
            handle = _HANDLE.search(inside) if call not in ("openat", "mkdir") else None
            if handle:
                paths: tuple[str, ...] = (_bytes(handle.group(2)).decode(),)
            else:
                paths = tuple(text.decode() for text in texts)
            numbers = re.findall(r", (\d+)$", inside)
            yield Event(
                call, paths, texts[0] if handle and texts else b"",
                int(numbers[-1]) if numbers else 0,
                int(handle.group(1)) if handle else result, inside,
            )  # fmt: skip


@dataclass
class File:
    """A file, or a folder if `folder`: what is safe, and what was written since."""

    folder: bool = False
    content: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, at: int, data: bytes) -> None:
        _put(self.content, at, data)
        self.unsynced.append((at, data))

    def cut(self, size: int) -> None:
        del self.content[size:]
        self.unsynced.append((-size, b""))

    def sync(self) -> None:
        self.safe, self.unsynced = bytes(self.content), []

    def after_cut(self, chance: random.Random | None) -> bytes:
        """What is there after a power cut: the safe part, and by chance some of the rest."""
        if chance is None or not self.unsynced:
            return self.safe
        left = bytearray(self.safe)
        for at, data in self.unsynced:
            if chance.random() < 0.5:
                if data:
                    _put(left, at, data)
                else:
                    del left[-at:]
        return bytes(left)


def _put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


class Disk:
    """The files under `root` as one process made them.

    Args:
        deaf_to: parts of paths whose syncs are ignored, to see that it would be noticed.
    """

    def __init__(self, root: str, deaf_to: tuple[str, ...] = ()) -> None:
        self._root = root
        self._deaf_to = deaf_to
        self._names: dict[str, File] = {}
        self._safe: dict[str, File] = {}
        self._place: dict[int, int] = {}

    def apply(self, event: Event) -> bool:
        """Takes in one call; whether it concerned these files."""
        paths = [path for path in event.paths if path.startswith(self._root)]
        if event.call == "openat":
            self._place[event.handle] = 0
        if not paths or paths[0].endswith("-shm"):
            return False
        getattr(self, f"_{event.call}")(paths, event)
        return event.call not in ("openat", "close")

    def _openat(self, paths: list[str], event: Event) -> None:
        path = paths[-1]
        if "O_CREAT" in event.flags and path not in self._names:
            self._names[path] = File()
        if "O_TRUNC" in event.flags:
            self._names[path].cut(0)

    def _close(self, _paths: list[str], _event: Event) -> None:
        pass

    def _mkdir(self, paths: list[str], _event: Event) -> None:
        self._names[paths[0]] = File(folder=True)

    def _write(self, paths: list[str], event: Event) -> None:
        at = self._place.get(event.handle, 0)
        self._names[paths[0]].write(at, event.data)
        self._place[event.handle] = at + len(event.data)

    def _pwrite64(self, paths: list[str], event: Event) -> None:
        self._names[paths[0]].write(event.number, event.data)

    def _ftruncate(self, paths: list[str], event: Event) -> None:
        self._names[paths[0]].cut(event.number)

    def _rename(self, paths: list[str], _event: Event) -> None:
        self._names[paths[1]] = self._names.pop(paths[0])

    def _unlink(self, paths: list[str], _event: Event) -> None:
        del self._names[paths[0]]

    def _fsync(self, paths: list[str], _event: Event) -> None:
        path = paths[0]
        if any(part in path for part in self._deaf_to):
            return
        known = self._names.get(path)
        if known is not None and not known.folder:
            known.sync()
            return
        for name in {*self._names, *self._safe}:
            if os.path.dirname(name) == path:
                if name in self._names:
                    self._safe[name] = self._names[name]
                else:
                    del self._safe[name]

    _fdatasync = _fsync

    def after_cut(self, place: Path, chance: random.Random | None = None) -> None:
        """Lays out under `place` what a power cut now leaves; with `chance`, not the least."""
        place.mkdir(parents=True)
        for name in sorted({*self._safe, *self._names}, key=len):
            file = self._safe.get(name)
            if chance is not None and self._names.get(name) is not file and chance.random() < 0.5:
                file = self._names.get(name)
            target = place / os.path.relpath(name, self._root)
            if file is None or target == place or not target.parent.is_dir():
                continue
            if file.folder:
                target.mkdir()
            else:
                target.write_bytes(file.after_cut(chance))
