"""Writes the generated parts of README.md: the table of methods, between its two marks."""

from __future__ import annotations

import sys
from pathlib import Path

from lora_studio.composition import METHODS

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- methods: written by `make docs` -->", "<!-- end of methods -->"


def method_table() -> str:
    """One row per registered method."""
    rows = ["| Name | | What it does | Parameters |", "|---|---|---|---|"]
    for method in METHODS:
        title = f"[{method.title}]({method.paper})" if method.paper else method.title
        names = ", ".join(f"`{p.name}`" for p in method.params) or "none"
        kind = {"merging": "merge", "routing": "route", "denoising": "denoise"}[method.kind]
        rows.append(f"| `{method.name}` | {kind} | **{title}.** {method.summary} | {names} |")
    return "\n".join(rows)


def updated(text: str) -> str:
    """README text with the table as it should be."""
    head, mark, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise SystemExit("README.md has lost the marks around its table of methods.")
    return f"{head}{START}\n\n{method_table()}\n\n{END}{tail}"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if updated(text) == text else "README.md is out of date: run `make docs`.")
    README.write_text(updated(text), encoding="utf-8")
