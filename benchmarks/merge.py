"""How long merging adapters of large models takes, beside what the disk alone takes, and others.

    python benchmarks/merge.py [--adapters 7] [--shapes llama-r16 llama-r64 sdxl-r16]
                               [--merges NAME ...] [--peft] [--write]

Builds random adapters in a temporary folder, then runs every data-free merge from files to a file.
"limit" reads all inputs and writes a file as large as the result, in the same process, nothing
else. Both are timed twice: with all files in the page cache, and from disk to disk, where inputs
are dropped from the cache before and the result is synced. Every row is a process of its own, whose
largest anonymous memory is sampled; mapped pages of files are not part of it. What would take long
is measured on two layers and extrapolated, which the row then says. `--write` puts the table in
docs/merge_speed.md, where rows that were not measured stay.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from _merge_peers import PEERS
from _merge_shapes import SHAPES, build

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Merged, Recipe, Source, run_recipe
from lora_studio.errors import LoraStudioError
from lora_studio.formats import canonical

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "merge_speed.md"
PAGE = """# How long merges of large models take

Written by `python benchmarks/merge.py --peft --write`: {adapters} random adapters from files to a
file, on a machine of {cores} cores, NumPy on one thread in each. *limit* reads all inputs and
writes a file as large as the result, and does nothing else; both are the medians of three runs,
with files in the page cache, and from disk to disk. *anonymous* is the largest memory beside mapped
files. Llama has the shapes of Llama 2 7B (7 projections, 32 layers), SDXL those of its 70
transformer blocks. Absolute times are this machine's; ratios carry over.

The limit of cached files is memory bandwidth, which a merge that multiplies matrices cannot reach;
from disk to disk the disk decides.

{table}
"""
COLUMNS = ("shape", "merge", "cached s", "processor s", "limit s", "ratio")
COLUMNS += ("disk s", "disk limit s", "ratio", "anonymous MiB")
HEAD = ("| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|")
NAMES = [m.name for m in METHODS if m.kind == "merging" and not m.needs_samples]
PATIENCE = 60.0
"""Seconds beyond which a merge is measured on two layers and extrapolated."""
REPEATS = 3
"""The median is told; a merge that takes longer than SLOW seconds is timed once."""
SLOW = 8.0


class Anonymous:
    """Samples this process's anonymous memory; `peak` in bytes."""

    def __init__(self) -> None:
        self.peak, self._stop = 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            lines = Path("/proc/self/status").read_text().splitlines()
            found = next(line for line in lines if line.startswith("RssAnon"))
            self.peak = max(self.peak, 1024 * int(found.split()[1]))


def forget(paths: list[Path]) -> None:
    """Drops files from the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def limit(inputs: list[Path], out: Path, size: int, *, disk: bool) -> float:
    """Seconds to read all inputs and write `size` bytes."""
    buffer = bytearray(1 << 22)
    if disk:
        forget(inputs)
    start = time.perf_counter()
    for path in inputs:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    with out.open("wb", buffering=0) as file:
        for position in range(0, size, len(buffer)):
            file.write(memoryview(buffer)[: size - position])
    if disk:
        sync(out)
    taken = time.perf_counter() - start
    out.unlink()
    return taken


def two_layers(adapter: Adapter) -> Adapter:
    """Only the first two layers, or blocks, of an adapter."""
    stems = sorted({_stem(name) for name in adapter.factors})[:2]
    return replace(adapter, factors={n: m for n, m in adapter.factors.items() if _stem(n) in stems})


def _stem(name: str) -> str:
    parts = name.split(".")
    last = max(i for i, part in enumerate(parts[:-2]) if part.isdigit())
    return ".".join(parts[: last + 1])


def merge(
    method: str,
    paths: list[Path],
    out: Path,
    cut: Callable[[Adapter], Adapter] = lambda adapter: adapter,
    *,
    disk: bool = False,
) -> float:
    """Seconds from the files at `paths` to the file at `out`."""
    if disk:
        forget(paths)
    start = time.perf_counter()
    sources = tuple(Source(f"{i:064x}") for i in range(len(paths)))
    recipe = Recipe({"repo": "b"}, sources, method, {})
    read = {s.id: cut(canonical.read(p)) for s, p in zip(sources, paths, strict=True)}
    modality = next(iter(read.values())).modality
    plan = run_recipe(replace(recipe, modality=modality), read.__getitem__, stream=True)
    assert isinstance(plan, Merged)
    canonical.write(plan.adapter, out)
    if disk:
        sync(out)
    return time.perf_counter() - start


def one(method: str, paths: list[Path], folder: Path) -> dict[str, float | str]:
    """Everything about one row; runs in its own process."""
    out, memory = folder / "out.safetensors", Anonymous()
    whole = canonical.read(paths[0])
    share = len(two_layers(whole).factors) / len(whole.factors)
    if method in PEERS:
        seconds = PEERS[method]([two_layers(canonical.read(p)) for p in paths], out)
        return {"seconds": seconds / share, "peak": memory.peak, "share": share}
    try:
        seconds = merge(method, paths, out, two_layers) / share
        if seconds > PATIENCE:
            return {"seconds": seconds, "peak": memory.peak, "share": share}
        size = 0
        times: dict[str, list[float]] = {"seconds": [], "limit": [], "disk": [], "disk_limit": []}
        processor = 0.0
        repeats = REPEATS if seconds < SLOW else 1
        for _ in range(repeats):
            for disk, name in ((False, "seconds"), (True, "disk")):
                before = time.process_time()
                times[name].append(merge(method, paths, out, disk=disk))
                processor += 0 if disk else time.process_time() - before
                size = out.stat().st_size
                out.unlink()
            peak = memory.peak
            times["limit"].append(limit(paths, out, size, disk=False))
            times["disk_limit"].append(limit(paths, out, size, disk=True))
    except LoraStudioError as error:
        return {"error": str(error)}
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    return {**medians, "cpu": processor / repeats, "peak": peak, "share": 1.0}


def rows(shape: str, paths: list[Path], folder: Path, only: list[str]) -> Iterator[str]:
    jobs = [(name, paths) for name in NAMES]
    jobs.append(("lego", paths * 4))
    jobs += [(name, paths) for name in PEERS]
    for name, given in [job for job in jobs if job[0] in only]:
        command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
        command += ["--paths", *map(str, given)]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        title = name if given is paths else f"{name}, {len(given)} adapters (each file four times)"
        yield _row(shape, title, json.loads(done.stdout) if done.stdout else {"error": done.stderr})


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parent.parent)
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": root}


def _row(shape: str, title: str, found: dict[str, float | str]) -> str:
    if "error" in found:
        return f"| {shape} | {title} | {_reason(str(found['error']))} | | | | | | | |"
    number = {name: float(value) for name, value in found.items()}
    mib = f"{number['peak'] / 2**20:.0f}"
    if number["share"] < 1:
        note = f"{number['seconds']:.1f} (extrapolated from {number['share']:.1%} of the modules)"
        return f"| {shape} | {title} | {note} | | | | | | | {mib} |"
    cells = [f"{number[n]:.2f}" for n in ("seconds", "cpu", "limit")]
    cells.append(f"{number['seconds'] / number['limit']:.1f}")
    cells += [f"{number[n]:.2f}" for n in ("disk", "disk_limit")]
    cells.append(f"{number['disk'] / number['disk_limit']:.2f}")
    return "| " + " | ".join([shape, title, *cells, mib]) + " |"


def _reason(error: str) -> str:
    """The first sentence of the last line of what went wrong, the name of its class left out."""
    last = re.sub(r"^[\w.]+(Error|Request): ", "", error.strip().splitlines()[-1])
    return last.split(". ")[0].removesuffix(".")


def _write(measured: list[str], adapters: int) -> None:
    """Puts rows into the page, each in the place it had there."""
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    known = [row for row in text.splitlines() if row.split(" | ")[0].removeprefix("| ") in SHAPES]
    placed = {tuple(row.split(" | ")[:2]): row for row in [*known, *measured]}
    table = "\n".join([*HEAD, *placed.values()])
    page = PAGE.format(adapters=adapters, cores=os.cpu_count(), table=table)
    DOCUMENT.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--adapters", type=int, default=7)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    every = [*NAMES, *PEERS]
    parser.add_argument("--merges", nargs="+", choices=every, metavar="NAME", help="only these")
    parser.add_argument("--peft", action="store_true", help="also PEFT's svd, which takes minutes")
    parser.add_argument("--write", action="store_true", help="write docs/merge_speed.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--paths", type=Path, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.paths, options.folder)))
        return
    only = options.merges or [n for n in every if options.peft or "peft" not in n]
    print(*HEAD, sep="\n")
    measured: list[str] = []
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = [folder / f"{i}.safetensors" for i in range(options.adapters)]
            for seed, path in enumerate(paths):
                build(shape, seed, path)
            for row in rows(shape, paths, folder, only):
                print(row, flush=True)
                measured.append(row)
    if options.write:
        _write(measured, options.adapters)


if __name__ == "__main__":
    main()
