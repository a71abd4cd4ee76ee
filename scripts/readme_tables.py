"""Writes the generated parts of README.md, each between its two marks: methods, leaderboard."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from lora_studio.composition import METHODS
from lora_studio.evaluation.leaderboard import Leaderboard, Line, shipped

README = Path(__file__).resolve().parent.parent / "README.md"
MARK = "<!-- {name}: written by `make docs` -->", "<!-- end of {name} -->"
BEST = 8
"""Compositions that the README shows of the leaderboard."""
ALWAYS = ("lego", "svd")


def method_table() -> str:
    """One row per registered method."""
    rows = ["| Name | | What it does | Parameters |", "|---|---|---|---|"]
    for method in METHODS:
        title = f"[{method.title}]({method.paper})" if method.paper else method.title
        names = ", ".join(f"`{p.name}`" for p in method.params) or "none"
        kind = {"merging": "merge", "routing": "route", "denoising": "denoise"}[method.kind]
        rows.append(f"| `{method.name}` | {kind} | **{title}.** {method.summary} | {names} |")
    return "\n".join(rows)


def leaderboard_table() -> str:
    """Controls, and the best compositions whose rank is one source's, by their mean."""
    board = shipped("text")
    groups = [group for group in board.groups if not group.suite]
    lines = [line for line in board.lines if line.size in ("", "r") and _rates(board, line)]
    controls = [line for line in lines if line.kind == "control"]
    made = sorted(
        (line for line in lines if line.kind != "control"),
        key=lambda line: -mean(_rates(board, line)),
    )
    shown = [n for n, line in enumerate(made) if n < BEST or line.method in ALWAYS]
    rows = ["| | Mean | " + " | ".join(group.title for group in groups) + " |"]
    rows.append("|---" * (len(groups) + 2) + "|")
    rows += [_row(board, line, line.title) for line in controls]
    rows += [
        _row(board, made[n], f"{n + 1}. {made[n].title}{_larger(board, made[n])}") for n in shown
    ]
    return "\n".join(rows)


def _rates(board: Leaderboard, line: Line) -> list[float]:
    """Of the groups of single tasks; none where one is missing."""
    cells = [
        board.cells[group.key].get(line.label, {}) for group in board.groups if not group.suite
    ]
    return [c["rate"] for c in cells if "rate" in c] if all("rate" in c for c in cells) else []


def _larger(board: Leaderboard, line: Line) -> str:
    larger = [board.cells[g.key].get(line.label, {}).get("rank", 0) > g.rank for g in board.groups]
    return " ‡" if any(larger) else ""


def _row(board: Leaderboard, line: Line, title: str) -> str:
    rates = _rates(board, line)
    return " | ".join([f"| {title}", *(f"{100 * r:.0f} %" for r in (mean(rates), *rates))]) + " |"


TABLES = {"methods": method_table, "leaderboard": leaderboard_table}


def updated(text: str, names: Iterable[str] = tuple(TABLES)) -> str:
    """README text with the tables as they should be."""
    for name in names:
        start, end = (mark.format(name=name) for mark in MARK)
        head, found, rest = text.partition(start)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"README.md has lost the marks around its table of {name}.")
        text = f"{head}{start}\n\n{TABLES[name]()}\n\n{end}{tail}"
    return text


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if updated(text) == text else "README.md is out of date: run `make docs`.")
    README.write_text(updated(text), encoding="utf-8")
