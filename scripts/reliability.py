"""Writes RELIABILITY.md from the figures that the tests of a full run wrote down.

`python scripts/reliability.py <folder>` reads <folder>/figures.jsonl; of each test the last line
counts.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Reliability

What the tests under `tests/faults` and `tests/hostile` measured in their last full run, written by
`make soak`. A failure is a case in which a promise was broken. A control is the same check on
something broken on purpose, and what it then found: a check that cannot fail proves nothing.

"""

Figure = dict[str, Any]


def latest(folder: Path) -> list[Figure]:
    """The last figure of each test, in the order of their numbers."""
    lines = (folder / "figures.jsonl").read_text(encoding="utf-8").splitlines()
    found = {figure["test"]: figure for figure in map(json.loads, lines)}
    return sorted(found.values(), key=lambda f: (_number(f["test"]), f["test"]))


def _number(test: str) -> int:
    match = re.match(r"T(\d+)", test)
    return int(match.group(1)) if match else 1000


def overview(figures: list[Figure]) -> str:
    rows = [
        f"| {f['test']} | {f['count']:,}{'' if f['full'] else ' (not the full count)'} "
        f"| {f['failures']:,} | {_time(f['seconds'])} |"
        for f in figures
    ]
    head = ["| Test | Cases | Failures | Took |", "| --- | ---: | ---: | ---: |"]
    return "\n".join(head + rows) + "\n"


def section(figure: Figure) -> str:
    measured = ", ".join(f"{_name(k)} {_value(v)}" for k, v in figure["measured"].items())
    full = "LORA_STUDIO_FULL=1 " if figure["full"] else ""
    return "\n".join(
        [
            f"## {figure['test']}",
            "",
            f"{figure['count']:,} cases, {figure['failures']:,} failures, "
            f"{_time(figure['seconds'])}, seed {figure['seed']}."
            + (f" Measured: {measured}." if measured else ""),
            "",
            f"Control: {figure['control']}.",
            "",
            f"`{full}python -m pytest {figure['command']}` at {figure['commit'] or 'no commit'}, "
            f"{figure['when'][:10]}.",
            "",
        ]
    )


def _name(key: str) -> str:
    return key.replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def main(folder: Path, out: Path = ROOT / "RELIABILITY.md") -> None:
    figures = latest(folder)
    text = HEAD + overview(figures) + "\n" + "\n".join(map(section, figures))
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {len(figures)} figures, {sum(f['failures'] for f in figures)} failures")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
