"""Writes RELIABILITY.md from the figures that the tests of a full run wrote down.

`python scripts/reliability.py <folder> ...` reads figures.jsonl of each folder, later ones last. Of
each test the last full figure counts, and without one the last of all; what PLAN names and nobody
ran is said to be missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLAN = {  # figure, or how its name begins: what a full run is
    "T1 hostile files": "2,000 files",
    "T1 honest files": "300 files",
    "T2 read as it was written": "20,000 examples",
    "T2 the same in any order": "5,000 examples",
    "T3 fuzzing header": "100,000,000 runs guided by coverage",
    "T3 fuzzing config": "10,000,000 runs guided by coverage",
    "T3 fuzzing archive": "10,000,000 runs guided by coverage",
    "T3 fuzzing names": "10,000,000 runs guided by coverage",
    "T4 two parsers": "1,000,000 mutants",
    "T5 planted bugs": "25 bugs, of which 23 must be noticed",
    "T6 kill -9": "2,000 kills",
    "T6 start after a kill, without its index": "10,000 adapters",
    "T7 power cut": "300 puts, every prefix",
    "T8 a system call fails": "500 injections",
    "T8 each step fails": "every step, three errors",
    "T8 a full 16 MB disk": "one disk",
    "T9 uploads at once": "640 uploads",
    "T10 worker faults": "900 faults",
    "T11 base integrity": "1,000 cycles",
    "T12 found at the next start": "200 kinds of damage",
    "T12 damaged backups": "1,000 copies",
    "T13 authorisation matrix": "170 cases",
    "T14 addresses in names": "60 names",
    "T15 load": "10,000 adapters, 10 minutes",
    "T16 soak": "8 hours",
    "T17 texts in the page": "60 payloads in every field",
}
HEAD = """# Reliability

What the tests under `tests/faults` and `tests/hostile` measured when they were run with their full
counts; written by `make soak` and `make fuzz`, never by hand. A failure is a case in which a
promise was broken. A control is the same check on something broken on purpose, and what it then
found: a check that cannot fail proves nothing. Each figure names the commit it was taken at.

"""

Figure = dict[str, Any]


def read(folders: Sequence[Path]) -> list[Figure]:
    """The figure that counts of each test, in the order of PLAN."""
    found: dict[str, Figure] = {}
    for folder in folders:
        file = folder / "figures.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        for figure in map(json.loads, lines):
            known = found.get(_key(figure["test"]))
            if known is None or figure["full"] or not known["full"]:
                found[_key(figure["test"])] = figure
    return sorted(found.values(), key=lambda figure: _place(figure["test"]))


def planned(test: str) -> str:
    """The line of PLAN that a figure belongs to, "" for none."""
    return next((name for name in PLAN if test.startswith(name)), "")


def _key(test: str) -> str:
    """Figures of one test differ in how long or on how many they were, except for T8's errors."""
    return test if test.startswith("T8") else planned(test) or test


def _place(test: str) -> tuple[int, str]:
    name = planned(test)
    return (list(PLAN).index(name) if name else len(PLAN), test)


def gaps(figures: Sequence[Figure]) -> str:
    """What was not run, or not with its full count."""
    ran = {planned(figure["test"]) for figure in figures}
    lines = [f"- {name}: not run ({full})." for name, full in PLAN.items() if name not in ran]
    lines += [
        f"- {figure['test']}: run on {figure['count']:,} cases only; in full it is "
        f"{PLAN.get(planned(figure['test']), 'more')}."
        for figure in figures
        if not figure["full"]
    ]
    told = "\n".join(lines) or "Nothing: every test was run with its full count."
    return f"## What is missing\n\n{told}\n"


def overview(figures: Sequence[Figure]) -> str:
    """A table, one row per figure, each with what its control found."""
    rows = [
        f"| {f['test']} | {f['count']:,}{'' if f['full'] else ' (not in full)'} "
        f"| {f['failures']:,} | {f['seed']} | {_time(f['seconds'])} | `{f['commit'] or 'none'}` "
        f"| {_cell(f['control'])} |"
        for f in figures
    ]
    head = [
        "| Test | Cases | Failures | Seed | Took | Commit | Control, broken on purpose |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    return "\n".join(head + rows) + "\n"


def section(figure: Figure) -> str:
    """How one figure was taken, and what else was measured."""
    measured = ", ".join(f"{_name(k)} {_value(v)}" for k, v in figure["measured"].items())
    full = "LORA_STUDIO_FULL=1 " if figure["full"] else ""
    return "\n".join(
        [
            f"### {figure['test']}",
            "",
            f"`{full}python -m pytest {figure['command']}`, {figure['when'][:10]}.",
            *([f"Measured: {measured}."] if measured else []),
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _name(key: str) -> str:
    return key.replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def document(folders: Sequence[Path]) -> str:
    """RELIABILITY.md of these folders of figures."""
    figures = read(folders)
    parts = [overview(figures), gaps(figures), "## How each was run\n", *map(section, figures)]
    return HEAD + "\n".join(parts)


if __name__ == "__main__":
    out = ROOT / "RELIABILITY.md"
    out.write_text(document([Path(folder) for folder in sys.argv[1:]]), encoding="utf-8")
    print(f"{out} is written")
