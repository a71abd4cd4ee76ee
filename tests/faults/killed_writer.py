"""Writes to galleries, is killed with SIGKILL at chosen points, and looks each time what is left.

Run as `python killed_writer.py <folder> <kills per point> <random kills> <seed> [commit-first]`;
prints one JSON object: kills, acknowledged, how often each promise was broken. A child is forked
per kill; the points lie in the child only, in wrappers around what the product calls. With
"commit-first" the row is committed before the file is put in place, as a gallery must not do.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.gallery import Gallery
from lora_studio.gallery.blobs import BlobStore
from lora_studio.gallery.placements import Placements
from lora_studio.gallery.store import Store
from lora_studio.settings import Settings

KILLS_PER_FOLDER = 25
PATIENCE = 60.0  # seconds for a child to reach its point

Where = Callable[[tuple[Any, ...]], bool]


def target(args: tuple[Any, ...]) -> str:
    """The path an os function was called for."""
    last = args[-1]
    return os.readlink(f"/proc/self/fd/{last}") if isinstance(last, int) else str(last)


def path_has(*parts: str) -> Where:
    return lambda args: all(part in target(args) for part in parts)


def always(_args: tuple[Any, ...]) -> bool:
    return True


POINTS: dict[str, tuple[Any, str, bool, Where]] = {
    # name: owner, function, whether before it is called, for which calls
    "file written": (os, "fsync", True, path_has("blobs/tmp/")),
    "file synced": (os, "fsync", False, path_has("blobs/tmp/")),
    "file renamed": (os, "replace", False, path_has("blobs/")),
    "folder synced": (os, "fsync", False, lambda args: target(args).endswith("gallery/blobs")),
    "row inserted": (Store, "insert", False, always),
    "row committed": (Gallery, "_commit", False, always),
    "vectors committed": (Placements, "put", False, always),
    "index synced": (os, "fsync", False, path_has("vectors.index")),
    "index renamed": (os, "replace", False, path_has("vectors.index")),
    "tombstone committed": (Gallery, "_change", False, always),
    "row purged": (BlobStore, "remove", True, always),
    "file removed": (BlobStore, "remove", False, always),
}


def arm(point: str, times: int) -> None:
    """From now on, this process kills itself when it passes `point` for the n-th time."""
    owner, name, before, where = POINTS[point]
    real = getattr(owner, name)
    left = [times]

    def pass_by(args: tuple[Any, ...]) -> None:
        if where(args):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    def call(*args: Any, **options: Any) -> Any:
        if before:
            pass_by(args)
        result = real(*args, **options)
        if not before:
            pass_by(args)
        return result

    setattr(owner, name, call)


def commit_first() -> None:
    """Puts every file in place only after its row was committed."""
    place_now = BlobStore._write
    add = Gallery.add
    waiting: list[Callable[[], None]] = []

    def place_later(self: BlobStore, data: bytes, place: Path) -> None:
        place.parent.mkdir(exist_ok=True)
        place.touch()
        waiting.append(lambda: (place.unlink(missing_ok=True), place_now(self, data, place)))

    def add_then_place(self: Gallery, *args: Any, **options: Any) -> Any:
        entry = add(self, *args, **options)
        while waiting:
            waiting.pop()()
        return entry

    BlobStore._write, Gallery.add = place_later, add_then_place


def adapter(seed: int) -> Adapter:
    generator = np.random.default_rng(seed)
    a, b = (generator.normal(size=s).astype(np.float32) for s in ((4, 512), (512, 4)))
    card = AdapterCard(title=f"Adapter {seed}", base_model="tiny", samples=("a", "b"))
    return Adapter({"layers.0.q_proj": LoraFactors(a, b)}, card)


def write(folder: Path, seed: int, out: int, rounds: int = 10_000) -> None:
    """Adds, places, deletes and purges; tells of what it may undo before, of everything after."""
    generator = np.random.default_rng(seed)
    settings = Settings(data_dir=folder)

    def tell(what: str, adapter_id: str) -> None:
        os.write(out, f"{what} {adapter_id}\n".encode())

    for number in range(rounds):
        if number % 4 == 0:
            gallery = Gallery.open(settings)
        one = adapter(seed * 10_000 + number)
        gallery.add(one)
        tell("kept", one.id)
        gallery.set_vectors(one.id, "minilm", generator.normal(size=(2, 8)), "samples")
        tell("placed", one.id)
        if number % 3:
            tell("deleting", one.id)
            gallery.delete(one.id)
            tell("deleted", one.id)
        if number % 3 == 2:
            tell("purging", one.id)
            gallery.purge(one.id)
            tell("purged", one.id)
        if number % 4 == 3:
            gallery.close()


def kill_one(folder: Path, point: str, seed: int, broken: bool) -> list[tuple[str, str]]:
    """Forks a writer and kills it; (what, id) of all it told."""
    chance = random.Random(seed)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        if broken:
            commit_first()
        if point:
            arm(point, chance.randint(1, 3))
        try:
            write(folder, seed, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as lines:
        told: list[str] = []
        if not point:
            told = [lines.readline() for _ in range(chance.randint(0, 12))]
            time.sleep(chance.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
        elif not _ends(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            sys.exit(f"the point '{point}' was not reached")
        told += lines.readlines()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(f"the writer ended by itself: {os.waitstatus_to_exitcode(status)}")
    return [(line.split()[0], line.split()[1]) for line in told if line.endswith("\n")]


def _ends(child: int) -> bool:
    handle = os.pidfd_open(child)
    try:
        return bool(select.select([handle], [], [], PATIENCE)[0])
    finally:
        os.close(handle)


def look(folder: Path, told: dict[str, str]) -> dict[str, float]:
    """Opens the gallery as the next start does; how often each promise is broken, and seconds."""
    start = time.perf_counter()
    gallery = Gallery.open(Settings(data_dir=folder), orphan_grace=-1)
    seconds = time.perf_counter() - start
    with gallery._store.read() as connection:
        query = "SELECT id, blob, deleted FROM adapters"
        rows = {row[0]: row for row in connection.exec_driver_sql(query).all()}
        sound = connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    lost = sum(not _kept(what, rows.get(adapter_id)) for adapter_id, what in told.items())
    places = {row[1]: gallery._blobs.path(row[1]) for row in rows.values()}
    dangling = [sha for sha, place in places.items() if not place.exists()]
    wrong = [sha for sha in places if sha not in dangling and not gallery._blobs.intact(sha)]
    files = [p for p in gallery._blobs.root.rglob("*") if p.is_file()]
    index = gallery._finder._shelf.vectors
    found = set(index.ids) if index else set()
    gallery.close()
    return {
        "lost": lost,
        "dangling": len(dangling),
        "wrong": len(wrong),
        "left behind": sum(p.stem not in places for p in files),
        "index wrong": int(found != gallery_placed(folder)),
        "unsound": int(not sound),
        "seconds": seconds,
    }


def gallery_placed(folder: Path) -> set[str]:
    store = Store(folder / "gallery" / "gallery.sqlite", "minilm")
    placed = Placements(store).stamp()[1]
    store.close()
    return placed


def _kept(what: str, row: Any) -> bool:
    if what in ("kept", "placed"):
        return row is not None and row[2] is None
    if what == "deleted":
        return row is not None and row[2] is not None
    return row is None if what == "purged" else what == "purging" or row is not None


def look_apart(folder: Path, told: dict[str, str]) -> dict[str, float]:
    """`look` in a child of its own, so that this process stays fit to be forked."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.write(writer, json.dumps(look(folder, told)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def main(folder: Path, per_point: int, at_random: int, seed: int, broken: bool) -> dict[str, float]:
    points = [point for point in POINTS for _ in range(per_point)] + [""] * at_random
    random.Random(seed).shuffle(points)
    totals: Counter[str] = Counter()
    slowest, told = 0.0, dict[str, str]()
    for number, point in enumerate(points):
        home = folder / str(number // KILLS_PER_FOLDER)
        if number % KILLS_PER_FOLDER == 0:
            home.mkdir(parents=True)
            told = {}
        lines = kill_one(home, point, seed * 100_000 + number, broken)
        told.update({adapter_id: what for what, adapter_id in lines})
        totals["acknowledged"] += sum(what in ("kept", "deleted", "purged") for what, _ in lines)
        found = look_apart(home, told)
        slowest = max(slowest, found.pop("seconds"))
        totals.update(found)
    return {"kills": len(points), **totals, "slowest": slowest}


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:5]]
    print(json.dumps(main(Path(sys.argv[1]), *numbers, broken=sys.argv[5:] == ["commit-first"])))
