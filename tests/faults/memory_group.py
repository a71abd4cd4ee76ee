"""A small share of the memory for one process, so that the kernel ends it when it takes more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BYTES = 300 << 20
ROOTS = {  # where the kernel has it: name of the limit
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}


@contextmanager
def memory_group() -> Iterator[Path | None]:
    """A control group of at most `BYTES`; None where this machine does not let us have one."""
    for root, limit in ROOTS.items():
        group = root / f"lora-studio-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(BYTES))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            with contextlib.suppress(OSError):  # somebody is still in it
                group.rmdir()
        return
    yield None
