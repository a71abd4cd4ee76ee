"""Writes to a gallery until it is killed, naming on stdout each adapter that was acknowledged.

Run as `python killed_writer.py <folder> <rounds> [commit-first]`: forks a child per round and kills
it with SIGKILL a random moment after a random number of acknowledgements. With "commit-first" the
row is committed before the file is put in place, as a store must not do, and the child dies in
between every few adapters; the test uses it to see that it would notice.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.gallery import Gallery, blobs
from lora_studio.settings import Settings


def adapter(seed: int) -> Adapter:
    generator = np.random.default_rng(seed)
    a, b = (generator.normal(size=s).astype(np.float32) for s in ((4, 512), (512, 4)))
    card = AdapterCard(title=f"Adapter {seed}", base_model="tiny", samples=("a", "b"))
    return Adapter({"layers.0.q_proj": LoraFactors(a, b)}, card)


def write(folder: Path, round_number: int, out: int) -> None:
    gallery = Gallery.open(Settings(data_dir=folder))
    generator = np.random.default_rng(round_number)
    for number in range(10_000):
        entry = gallery.add(adapter(round_number * 10_000 + number))
        os.write(out, f"added {entry.id}\n".encode())
        vectors = generator.normal(size=(2, 8)).astype(np.float32)
        gallery.set_vectors(entry.id, "minilm", vectors, "samples")
        os.write(out, f"placed {entry.id}\n".encode())
        if number % 3 == 2:
            gallery.delete(entry.id)
            os.write(out, f"deleted {entry.id}\n".encode())


def write_file_after_commit() -> None:
    place_later = blobs.BlobStore._write

    def forget(self: blobs.BlobStore, data: bytes, place: Path) -> None:
        place.parent.mkdir(exist_ok=True)
        place.touch()
        waiting.append(lambda: place_later(self, data, place))

    waiting: list = []
    chance = random.Random(0)
    add = Gallery.add

    def add_then_write(self: Gallery, *args, **options):
        entry = add(self, *args, **options)
        if waiting and chance.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        while waiting:
            waiting.pop()()
        return entry

    blobs.BlobStore._write = forget
    Gallery.add = add_then_write


def main(folder: Path, rounds: int, commit_first: bool) -> None:
    if commit_first:
        write_file_after_commit()
    chance = random.Random(rounds)
    for number in range(rounds):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            write(folder, number, writer)
            os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for _ in range(chance.randint(0, 9)):
                sys.stdout.write(lines.readline())
            time.sleep(chance.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            sys.stdout.write(lines.read())
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"round {number} ended by itself: {status}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["commit-first"])
