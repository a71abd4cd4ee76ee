"""Writes REPORT.md from measured rows. Sections can be replaced or appended by title, so that
other measurements can join the same page; a number enters only through a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_studio.evaluation.metrics import Rate

TITLE = "# The embedded text demo: what was trained and measured"


@dataclass(frozen=True)
class TaskRow:
    """One task: its held-out set and what base and adapters do on it."""

    name: str
    holdout: str
    train_items: int
    test_items: int
    test_keys: int
    base: Rate


@dataclass(frozen=True)
class AdapterRow:
    """One adapter: exact match on its own held-out requests and on those of other tasks."""

    name: str
    task: str
    kind: str
    shape: str
    own: Rate
    base: Rate
    wrong: Rate
    cpu_seconds: float
    size: int


@dataclass(frozen=True)
class ChainedRow:
    """One chained task: base, the better of the adapters it needs, and the sum of both."""

    name: str
    parts: tuple[str, ...]
    test_items: int
    base: Rate
    best_single: Rate
    sums: dict[str, Rate]


def percent(score: Rate) -> str:
    """Exact match with its 95 % Wilson interval, in per cent."""
    low, high = score.interval
    return f"{100 * score.rate:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def task_section(rows: Sequence[TaskRow]) -> str:
    """Held-out sets, by task."""
    head = (
        "task",
        "held out",
        "unique train items",
        "test items",
        "of them different keys",
        "base EM %",
    )
    body = [
        (r.name, r.holdout, r.train_items, r.test_items, r.test_keys, percent(r.base)) for r in rows
    ]
    note = (
        "One key in five (by hash) never occurs in adapter training. A key is the entity or the "
        "combination named under *held out*; prompts that share a key are not independent, so read "
        "the intervals of closed lexicons as narrow. Train items: different prompts among the "
        "drawn samples. EM: exact match of the greedy answer, with a 95 % Wilson interval."
    )
    return f"{note}\n\n{table(head, body)}"


def adapter_section(rows: Sequence[AdapterRow]) -> str:
    """Every adapter on its own task, and on the other tasks."""
    head = ("adapter", "shape", "own EM %", "base EM %", "other tasks EM %", "CPU-s", "kB")
    body = [
        (
            r.name,
            r.shape,
            percent(r.own),
            f"{100 * r.base.rate:.1f}",
            f"{100 * r.wrong.rate:.1f}",
            f"{r.cpu_seconds:.0f}",
            f"{r.size / 1000:.0f}",
        )
        for r in rows
    ]
    passing = {
        r.task for r in rows if r.kind == "plain" and r.own.rate >= 0.95 and r.base.rate <= 0.2
    }
    note = f"Tasks whose plain adapter has 95 % or more and the base 20 % or less: {len(passing)}."
    return f"{note}\n\n{table(head, body)}"


def chained_section(rows: Sequence[ChainedRow]) -> str:
    """Chained tasks, which have no adapter."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.sums))
    sums = [f"sum, {kind} %" for kind in kinds]
    head = ("chained task", "needs", "test items", "base %", "best single adapter %", *sums)
    body = [
        (
            r.name,
            " + ".join(r.parts),
            r.test_items,
            percent(r.base),
            percent(r.best_single),
            *(percent(r.sums[kind]) if kind in r.sums else "-" for kind in kinds),
        )
        for r in rows
    ]
    note = "No adapter was trained for these. The sum adds both updates at weight 1."
    return f"{note}\n\n{table(head, body)}"


def put_section(path: Path, title: str, body: str) -> None:
    """Replaces the section `## title` of the report, or appends it; creates the page if needed."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"{TITLE}\n"
    section = f"## {title}\n\n{body.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
