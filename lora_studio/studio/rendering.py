"""Pictures for comparisons: columns and prompts become one render job, its files get names that
the page may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from lora_studio.compare import Column, all_blobs
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.settings import Settings
from lora_studio.studio.flow import Event, Flow, Steps, changed
from lora_studio.worker.job import Job

MAX_PICTURES = 256
NAME = re.compile(r"([0-9a-f]{32})-([A-Za-z0-9_]{1,64})\.png")
SAMPLING = ("steps", "guidance", "width", "height", "negative", "scheduler")

Cell = dict[str, Any]
"""{"prompt", "column", "seed", "image" (a name for `Renderer.path`) or None, "preview" (data URL)
or None, "step", "steps", "passes", "done"}."""


@dataclass(frozen=True)
class Order:
    """What one render job is asked for.

    Args:
        rows: (prompt, seed) of each row.
        sampling: steps, guidance, width, height, negative, scheduler; what is missing is the
            model's own.
    """

    base: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, int]]
    sampling: Mapping[str, Any]

    def check(self) -> None:
        """Raises InvalidRequest for an empty prompt or too many pictures."""
        if not self.rows or any(not prompt.strip() for prompt, _ in self.rows):
            raise InvalidRequest("Write at least one prompt.")
        if len(self.rows) * len(self.columns) > MAX_PICTURES:
            raise InvalidRequest(
                f"That is more than {MAX_PICTURES} pictures. Use fewer prompts or columns."
            )


class Renderer:
    """Runs orders in the model worker and hands out the pictures."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.scratch_dir / "images"

    def run(self, flow: Flow, order: Order) -> Steps:
        """Yields progress, and data events with the cells that changed; returns {cells, columns,
        seeds, seconds, steps, guidance, width, height}."""
        order.check()
        folder = self._root / uuid4().hex
        seeds = [seed for _, seed in order.rows]
        args: dict[str, Any] = {k: v for k, v in order.sampling.items() if k in SAMPLING}
        args |= {
            "base": order.base,
            "device": self._settings.device,
            "max_rows": self._settings.max_rows,
            "adapters": all_blobs(order.columns),
            "columns": [column.to_render() for column in order.columns],
            "prompts": [prompt for prompt, _ in order.rows],
            "seeds": seeds,
            "out": str(folder),
        }

        def as_cells(event: Event) -> Event:
            if event["type"] != "data":
                return event
            return {"type": "data", "cells": [_cell(c, seeds) for c in event["cells"]]}

        result = yield from changed(flow.run(Job("render", args, "model")), as_cells)
        heads = zip(order.columns, result["columns"], strict=True)
        return {
            **{k: result[k] for k in ("seconds", "steps", "guidance", "width", "height")},
            "modality": "image",
            "cells": [_cell(c, seeds) for c in result["cells"]],
            "columns": [{**column.to_dict(), **facts} for column, facts in heads],
            "seeds": seeds,
        }

    def path(self, name: str) -> Path:
        """The file of a picture by the name its cell gave; raises NotFound."""
        found = NAME.fullmatch(name)
        file = self._root / found[1] / f"{found[2]}.png" if found else None
        if file is None or not file.is_file():
            raise NotFound("That picture is gone. Run the comparison again to make it anew.")
        return file


def moved(steps: Steps, place: Callable[[Cell], list[Cell]]) -> Steps:
    """The same steps with every cell of their events replaced by what `place` gives for it."""

    def change(event: Event) -> Event:
        if event["type"] != "data":
            return event
        return {**event, "cells": [new for cell in event["cells"] for new in place(cell)]}

    return changed(steps, change)


def _cell(cell: Mapping[str, Any], seeds: Sequence[int]) -> Cell:
    path = Path(cell["path"]) if cell.get("path") else None
    return {
        "prompt": cell["prompt"],
        "column": cell["column"],
        "seed": seeds[cell["prompt"]],
        "image": f"{path.parent.name}-{path.name}" if path else None,
        "preview": cell.get("preview"),
        "step": cell.get("step"),
        "steps": cell.get("steps"),
        "passes": cell.get("passes"),
        "done": bool(cell.get("done")),
    }
