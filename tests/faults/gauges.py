"""What a process holds over time, and whether it grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil


@dataclass(frozen=True)
class Sample:
    """What is held at one moment.

    Args:
        at: seconds since the beginning.
        rss, temp, wal: bytes in memory, in temporary files, in the log of the database.
        fds, threads: open files and threads.
    """

    at: float
    rss: int
    fds: int
    threads: int
    temp: int = 0
    wal: int = 0


def sample(process: psutil.Process, at: float, data: Path | None = None) -> Sample:
    """Of a process, and of the data folder of a studio."""
    temp = wal = 0
    if data is not None:
        temp = sum(
            _size(file) for name in ("uploads", "scratch") for file in data.glob(f"{name}/**/*")
        )
        wal = _size(data / "gallery" / "gallery.sqlite-wal")
    with process.oneshot():
        rss = process.memory_info().rss
        return Sample(at, rss, process.num_fds(), process.num_threads(), temp, wal)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # gone meanwhile
        return 0


def growth(samples: list[Sample], field: str) -> tuple[float, float]:
    """Slope of a least-squares line through a field, per hour, and its standard error."""
    hours = np.array([s.at for s in samples]) / 3600
    values = np.array([getattr(s, field) for s in samples], float)
    hours, values = hours - hours.mean(), values - values.mean()
    spread = float(hours @ hours)
    slope = float(hours @ values) / spread
    left = values - slope * hours
    return slope, float(np.sqrt(left @ left / (len(samples) - 2) / spread))
