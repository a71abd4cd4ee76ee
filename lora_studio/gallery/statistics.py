"""Where statistics of adapters are kept between verdicts: a cache, which may vanish at any time.

A file is named by the digests of the weights it was taken from, so it cannot be out of date.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from uuid import uuid4

from lora_studio.rank_units.statistics import (
    Pair,
    Profile,
    load_pair,
    load_profile,
)

log = logging.getLogger(__name__)

SUFFIX = ".stats"
ROOM = 1 << 30
"""Bytes that all files together may take; the ones longest unused go first."""


class Statistics:
    """Profiles of adapters and of pairs, in one folder.

    Args:
        root: the folder; made when something is kept.
    """

    def __init__(self, root: Path, room: int = ROOM) -> None:
        self.root = root
        self._room = room

    def path(self, *shas: str) -> Path:
        """Where the profile of one file of weights, or the statistics of two, would be."""
        first, *_ = ordered = sorted(shas)
        return self.root / first[:2] / f"{'-'.join(ordered)}{SUFFIX}"

    def has(self, shas: Iterable[str]) -> bool:
        """Whether there are files for all of these and for every two of them."""
        names = sorted(set(shas))
        paths = [self.path(name) for name in names]
        paths += [self.path(one, two) for one, two in combinations(names, 2)]
        return all(path.is_file() for path in paths)

    def profile(self, sha: str) -> Profile | None:
        """The profile of one file of weights, if it is here."""
        data = self._read(self.path(sha))
        return None if data is None else load_profile(data)

    def pair(self, one: str, two: str, profiles: Mapping[str, Profile]) -> Pair | None:
        """The statistics of two, the first digest's units first; None if they are not here."""
        if one > two:
            raise ValueError("pairs are kept with the smaller digest first")
        data = self._read(self.path(one, two))
        return None if data is None else load_pair(data, profiles[one], profiles[two])

    def load(
        self, shas: Sequence[str]
    ) -> tuple[dict[str, Profile], dict[tuple[str, str], Pair], list[tuple[str, str]]]:
        """What is known of these files: profiles, pairs, and the pairs that are missing; digests in
        a pair are in ascending order."""
        names = sorted(set(shas))
        profiles = {sha: found for sha in names if (found := self.profile(sha)) is not None}
        pairs: dict[tuple[str, str], Pair] = {}
        missing: list[tuple[str, str]] = []
        for one, two in combinations(names, 2):
            known = one in profiles and two in profiles
            pair = self.pair(one, two, profiles) if known else None
            if pair is None:
                missing.append((one, two))
            else:
                pairs[one, two] = pair
        return profiles, pairs, missing

    def keep(self, data: bytes, *shas: str) -> None:
        """Stores statistics; a full disk is logged, since they can be taken again."""
        place = self.path(*shas)
        part = place.with_name(f"{uuid4().hex}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            os.replace(part, place)
        except OSError as error:
            log.warning("statistics cannot be kept: %s", error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def remove(self, sha: str) -> None:
        """Deletes whatever was taken from the file with this digest."""
        for path, shas in self._files():
            if sha in shas:
                path.unlink(missing_ok=True)

    def sweep(self, keep: Collection[str], grace_seconds: float, *, alone: bool = False) -> int:
        """Deletes what was taken from files not in `keep`, what was left half written longer ago
        than the grace, and what there is no room for; returns how many files."""
        gone, kept = 0, []
        oldest = time.time() - grace_seconds
        for path, shas in self._files():
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                stray = path.suffix != SUFFIX or not all(sha in keep for sha in shas)
                if stray and (alone or state.st_mtime <= oldest or path.suffix == SUFFIX):
                    path.unlink()
                    gone += 1
                elif not stray:
                    kept.append((state.st_mtime, state.st_size, path))
        return gone + self._shrink(sorted(kept, reverse=True))

    def _shrink(self, newest_first: Sequence[tuple[float, int, Path]]) -> int:
        gone, taken = 0, 0
        for _, size, path in newest_first:
            taken += size
            if taken > self._room:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _files(self) -> Iterator[tuple[Path, list[str]]]:
        if not self.root.is_dir():
            return
        for folder in self.root.iterdir():
            if folder.is_dir():
                yield from ((path, path.stem.split("-")) for path in folder.iterdir())

    def _read(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data
