"""The app grows by what it holds, not by heaps that its threads once needed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

THREADS = 24
GROWTH = f"""
import sys, threading
from lora_studio import heaps
done = heaps.share_arenas() if sys.argv[1] == "capped" else None
def work(wait):
    kept = [bytes(3000) for _ in range(3000)]
    wait.wait(20)
    del kept
wait = threading.Barrier({THREADS})
threads = [threading.Thread(target=work, args=(wait,)) for _ in range({THREADS})]
[t.start() for t in threads]; [t.join() for t in threads]
maps = open("/proc/self/maps").read().splitlines()
found = [m for m in maps if m.split()[1] == "rw-p" and int(m.split("-")[0], 16) % (1 << 26) == 0]
print(done, len(found))
"""


def heaps(mode: str, **environment: str) -> tuple[str, int]:
    """(what `share_arenas` said, heaps besides the first) after many threads have worked."""
    command = [sys.executable, "-c", GROWTH, mode]
    kept = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**kept, **environment}
    )
    said, found = done.stdout.split()
    return said, int(found)


GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
HELD = """
import psutil
from lora_studio import heaps
kept = [bytes(500) for _ in range(200_000)]
pin = [bytes(500) for _ in range(10)]
before = psutil.Process().memory_info().rss
del kept
freed = psutil.Process().memory_info().rss
print(heaps.give_back(), before - freed, freed - psutil.Process().memory_info().rss)
"""


@GLIBC
def test_threads_share_two_heaps():
    _, free = heaps("free")
    said, capped = heaps("capped")
    assert said == "True"
    assert capped <= 2
    assert free >= 4 * capped > 0, (
        "threads have no heaps of their own here, so that this shows nothing"
    )
    assert heaps("capped", MALLOC_ARENA_MAX="3")[0] == "False", "the operator's word stands"


@GLIBC
def test_what_was_freed_goes_back_to_the_system():
    done = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, check=True
    ).stdout.split()
    assert done[0] == "True"
    assert int(done[2]) > 50_000_000 > int(done[1]), "the C library keeps nothing here"
