"""How many cases a test runs, and where it writes down what it measured.

`make test` runs the usual counts. LORA_STUDIO_FULL=1 asks for the full ones; with
LORA_STUDIO_FIGURES naming a folder, each test adds a line of JSON there, from which
scripts/reliability.py writes RELIABILITY.md.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

FULL = os.environ.get("LORA_STUDIO_FULL", "") not in ("", "0")


def cases(usual: int, full: int) -> int:
    """How many cases to run now."""
    return full if FULL else usual


def record(
    test: str, *, count: int, failures: int, seconds: float, control: str, seed: int = 0,
    full: bool = FULL, command: str = "", **measured: float | int | str,
) -> None:  # fmt: skip
    """Writes down one figure; call it before asserting, so that a failure is on record too.

    Args:
        test: its name in RELIABILITY.md, such as "T6 kill -9".
        count: cases run. failures: cases that broke the promise.
        control: what was broken on purpose and how the same check noticed, in a few words.
        full: whether these are the full counts.
        command: what pytest is given to run it again; by default the running test.
        measured: further figures by name, in the order of the table.
    """
    folder = os.environ.get("LORA_STUDIO_FIGURES")
    if not folder:
        return
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    commit = subprocess.run(
        git, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    line = {
        "test": test, "count": count, "failures": failures, "seconds": round(seconds, 1),
        "seed": seed, "control": control, "measured": measured, "full": full,
        "command": command or os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)"),
        "commit": commit.stdout.strip(), "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    with (Path(folder) / "figures.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
