"""Writes to a gallery on a disk that fails; tells what was kept and how each refusal was worded.

`python full_disk.py steps <folder>` adds ten adapters, deletes and purges some: the test has strace
fail a system call of it. `python full_disk.py fill <folder>` adds until the disk is full, makes
room, and goes on; prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from lora_studio.errors import LoraStudioError, StorageFull
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from tests.faults.killed_writer import adapter


def steps(folder: Path) -> None:
    """Ten rounds; `refused` takes the place of an answer where the disk did not play along."""
    gallery: Gallery | None = None
    settings = Settings(data_dir=folder)
    for number in range(10):
        one = adapter(number)
        try:
            gallery = gallery or Gallery.open(settings)
            gallery.add(one)
            tell("kept", one.id)
            gallery.set_vectors(one.id, "minilm", np.eye(8)[:2] + number, "samples")
            tell("placed", one.id)
            if number % 3 == 1:
                tell("deleting", one.id)
                gallery.delete(one.id)
                tell("deleted", one.id)
            if number % 3 == 2:
                tell("purging", one.id)
                gallery.purge(one.id)
                tell("purged", one.id)
            if number % 4 == 3:
                closing, gallery = gallery, None
                closing.close()
        except LoraStudioError as error:
            tell("refused", f"{type(error).__name__}: {error}")
            if gallery is not None:
                gallery.search("adapter")  # reading goes on
    tell("ended", "-")


def tell(what: str, more: str) -> None:
    os.write(1, f"{what} {more}\n".encode())


def fill(folder: Path) -> dict[str, object]:
    """Adds until it is full, three times; what was lost, left behind, and the time of a search."""
    gallery = Gallery.open(Settings(data_dir=folder))
    kept: list[str] = []
    refusals, left, resumed, seed = 0, 0, 0, 0
    for turn in range(3):
        full = False
        while not full:
            seed += 1
            try:
                kept.append(gallery.add(adapter(seed)).id)
            except StorageFull:
                refusals, full = refusals + 1, True
        for _ in range(20):  # and goes on refusing without using up what little is left
            before = free(folder)
            seed += 1
            try:
                kept.append(gallery.add(adapter(seed)).id)
            except StorageFull:
                refusals += 1
                left = max(left, before - free(folder))
        full_search = slowest(gallery)
        (folder / f"ballast{turn}").unlink()  # somebody makes room
        for _ in range(10):
            gallery.purge(kept.pop())
        seed += 1
        kept.append(gallery.add(adapter(seed)).id)
        resumed += 1
    quiet_search = slowest(gallery)
    whole = sum(gallery.adapter(i).id == i for i in kept)
    staging = list((folder / "gallery" / "blobs" / "tmp").iterdir())
    gallery.close()
    return {
        "kept": len(kept), "lost": len(kept) - whole, "refusals": refusals, "left": left,
        "resumed": resumed, "staging": len(staging), "search_full_ms": full_search,
        "search_ms": quiet_search,
    }  # fmt: skip


def slowest(gallery: Gallery) -> float:
    """95th percentile of 60 searches, in ms."""
    times = []
    for number in range(60):
        start = time.perf_counter()
        assert gallery.search(f"adapter {number}").hits
        times.append(1000 * (time.perf_counter() - start))
    return round(sorted(times)[56], 2)


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


if __name__ == "__main__":
    if sys.argv[1] == "steps":
        steps(Path(sys.argv[2]))
    else:
        print(json.dumps(fill(Path(sys.argv[2]))))
