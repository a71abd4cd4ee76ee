"""Comparisons: prompts times columns become the rows of one batch, under one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_studio.composition import Routed, RowTerms
from lora_studio.errors import InvalidRequest

MAX_COLUMNS = 8
MAX_PROMPTS = 64


@dataclass(frozen=True)
class Column:
    """One way to answer every prompt.

    Args:
        title, detail: what its head says.
        terms: (adapter id, weight) pairs that act on every row; empty is the base model.
        routed: a rule that chooses the terms prompt by prompt instead.
        recipe: a whole composition instead, carried out beside an image model.
        blobs: adapter id -> path of every adapter the column may need.
        samples: adapter id -> sample prompts, for recipes that tune themselves on them.
    """

    title: str
    detail: str = ""
    terms: tuple[tuple[str, float], ...] = ()
    routed: Routed | None = None
    recipe: Mapping[str, Any] | None = None
    blobs: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, str]:
        return {"title": self.title, "detail": self.detail}

    def to_render(self) -> dict[str, Any]:
        """The column as the render task takes it."""
        if self.recipe is not None:
            return {"title": self.title, "recipe": dict(self.recipe), "samples": self.samples}
        return {"title": self.title, "terms": [list(term) for term in self.terms]}


BASE_COLUMN = Column("Base model", "no adapter")


def make_rows(
    columns: Sequence[Column],
    prompts: Sequence[str],
    near: Sequence[Sequence[Mapping[str, float]]],
    sampling: Mapping[str, Any],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows for the generate task, named "<prompt>.<column>".

    All columns answer a prompt under the same seed, so that they differ by their adapters only.

    Args:
        near: for each column, for each prompt, adapter id -> cosine or signal; of columns that do
            not look at the prompt empty.

    Raises:
        InvalidRequest: too many rows, or an empty prompt.
    """
    if not prompts or any(not p.strip() for p in prompts):
        raise InvalidRequest("Write at least one prompt.")
    if len(columns) > MAX_COLUMNS:
        raise InvalidRequest(f"Compare at most {MAX_COLUMNS} columns at once.")
    rows = []
    for p, prompt in enumerate(prompts):
        for c, column in enumerate(columns):
            chosen = RowTerms(column.terms)
            if column.routed is not None:
                chosen = column.routed.row(near[c][p] if near[c] else {})
            rows.append(
                {
                    "id": f"{p}.{c}",
                    "prompt": prompt,
                    **chosen.to_dict(),
                    "sampling": dict(sampling),
                    "seed": seed + p,
                }
            )
    return rows


def cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a generate event as cells of the comparison."""
    found = []
    for row in rows:
        prompt, _, column = str(row["id"]).partition(".")
        found.append(
            {
                "prompt": int(prompt),
                "column": int(column),
                "text": str(row["text"]).strip(),
                "tokens": row["tokens"],
                "done": bool(row.get("done", True)),
            }
        )
    return found


def all_blobs(columns: Sequence[Column]) -> dict[str, str]:
    """Every adapter that any column may need."""
    return {name: path for column in columns for name, path in column.blobs.items()}
