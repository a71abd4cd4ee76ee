"""How the measurements of demo_compositions.py are written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
"""Label -> what was measured, or why it was refused."""


def cell(row: Mapping[str, Any], most: int) -> str:
    if "refused" in row:
        return "refused"
    larger = "‡" if row.get("rank", 0) > most else ""
    return f"{row['rate']:.2f}{larger} ({row['low']:.2f}–{row['high']:.2f})"


def table(columns: Mapping[str, Rows], most: Mapping[str, int]) -> str:
    """Markdown: a row per method, a column per group. The best merge within the rank is bold."""
    labels = list(dict.fromkeys(label for rows in columns.values() for label in rows))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    best = {
        name: max(
            (r["rate"] for r in rows.values() if 0 < r.get("rank", 0) <= most[name]), default=0
        )
        for name, rows in columns.items()
    }
    for label in labels:
        cells = []
        for name, rows in columns.items():
            row = rows.get(label)
            text = cell(row, most[name]) if row else ""
            mine = row and 0 < row.get("rank", 0) <= most[name] and row["rate"] == best[name] > 0
            cells.append(f"**{text}**" if mine else text)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document(
    members: Mapping[str, Iterable[str]],
    found: Mapping[str, Rows],
    ranks: Mapping[str, int],
    prompts: int,
) -> str:
    """The whole document, as Markdown.

    Args:
        members, found: of each group, its tasks and its rows.
        ranks: of each group, the largest source's. prompts: of each task, at most.
    """
    listed = "\n".join(
        f"- **{key}** (rank {ranks[key]}): {', '.join(tasks)}" for key, tasks in members.items()
    )
    pieces = [DOCUMENT.format(prompts=prompts, members=listed)]
    parts = (
        ("At the rank of the largest source", ", k=2r", 1, False),
        ("At twice that rank", ", k=r", 2, False),
        ("Chained tasks: no adapter was trained for them", ", k=r", 2, True),
    )
    for title, without, times, chained in parts:
        shown = {
            key: {n: r for n, r in rows.items() if not n.endswith(without)}
            for key, rows in found.items()
            if key.startswith("chained") == chained
        }
        if shown:
            most = {key: times * rank for key, rank in ranks.items()}
            pieces.append(f"## {title}\n\n{table(shown, most)}\n")
    return "\n".join(pieces)


DOCUMENT = """# Compositions of the demo adapters, measured

Written by `python benchmarks/demo_compositions.py --write`. Exact match on up to {prompts} held-out
prompts of each task, with 95 % Wilson intervals; they cover the choice of prompts, not of training
seeds. Strengths are chosen on sample prompts of the sources, which are never test prompts, wherever
a method can. In bold the best merge of a column within the rank of the table; ‡ marks a result of a
larger rank. The random adapter of the groups is another member of
the group, drawn for each prompt; of the chained tasks, one outsider. Defaults were chosen on groups
of other tasks (`--tuning`).

{members}
"""
