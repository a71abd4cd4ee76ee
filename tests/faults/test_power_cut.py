"""A power cut at any moment loses nothing acknowledged: every prefix of the system calls of a real
gallery is replayed on a disk that forgets what was not synced."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.disk_model import CALLS, Disk, Event, events
from tests.faults.killed_writer import look
from tests.figures import cases, record

ROOT = Path(__file__).resolve().parents[2]
SEED = 7
WRITER = """
import sys
from pathlib import Path
from tests.faults.killed_writer import write
write(Path(sys.argv[1]), 1, 1, int(sys.argv[2]))
"""
CONTROLS = {
    "files": ("/blobs/tmp/", ".safetensors"),
    "folders": ("/blobs",),
    "the log of the database": ("-wal",),
}

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)


def trace(folder: Path, rounds: int) -> list[Event]:
    """The system calls of a process that writes to a gallery for some rounds."""
    out = folder / "trace"
    command = [
        "strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(out),
        sys.executable, "-c", WRITER, str(folder / "data"), str(rounds),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "ptrace" in done.stderr.lower():
        pytest.skip("this machine does not let strace trace")
    assert done.returncode == 0, done.stderr[-2000:]
    return list(events(out))


def told(event: Event) -> tuple[str, str] | None:
    if event.call == "write" and event.handle == 1:
        what, adapter_id = event.data.decode().split()
        return adapter_id, what
    return None


def replay(
    calls: Sequence[Event], root: str, place: Path, chances: int, deaf_to: tuple[str, ...] = ()
) -> tuple[int, Counter[str]]:
    """Cuts the power after every sync and answer, with the least that can be left and `chances`
    times with more; how many cuts, and how often each promise was broken. One that is deaf to some
    syncs ends with the first broken promise."""
    disk, known = Disk(root, deaf_to), dict[str, str]()
    cuts, broken = 0, Counter[str]()
    chance = random.Random(SEED)

    def cut(by_chance: random.Random | None) -> None:
        nonlocal cuts
        cuts += 1
        home = place / str(cuts)
        disk.after_cut(home, by_chance)
        found = look(home, known)
        found.pop("seconds")
        broken.update({name: int(count > 0) for name, count in found.items()})
        shutil.rmtree(home)

    for event in calls:
        answer = told(event)
        if answer:
            known[answer[0]] = answer[1]
        elif not disk.apply(event):
            continue
        if answer or event.call in ("fsync", "fdatasync", "rename", "unlink"):
            cut(None)
            for _ in range(chances):
                cut(chance)
        if deaf_to and +broken:
            break
    return cuts, broken


@needs_strace
def test_a_power_cut_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    start = time.perf_counter()
    rounds = cases(3, 300)
    calls = trace(tmp_path, rounds)
    root = str(tmp_path / "data")
    assert sum(1 for event in calls if told(event)) >= 2 * rounds
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) as place:
        cuts, broken = replay(calls, root, Path(place), cases(1, 2))
        noticed = {
            name: replay(calls, root, Path(place), 0, deaf_to) for name, deaf_to in CONTROLS.items()
        }
    record(
        "T7 power cut",
        count=cuts,
        failures=sum(broken.values()),
        seconds=time.perf_counter() - start,
        seed=SEED,
        control="; ".join(
            f"without the syncs of {name}, broken at cut {count}: {', '.join(+found)}"
            for name, (count, found) in noticed.items()
        ),
        puts=rounds,
    )
    assert +broken == {}
    assert all(+found for _, found in noticed.values()), noticed
