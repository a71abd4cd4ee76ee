"""XY grids: every cell one setting; cells that share steps and guidance are made in one job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lora_studio.composition import METHODS, Recipe
from lora_studio.errors import InvalidRequest
from lora_studio.studio.axes import Axis, read_axis
from lora_studio.studio.columns import Columns
from lora_studio.studio.composing import Composer
from lora_studio.studio.flow import Event, Flow, Steps, changed
from lora_studio.studio.rendering import MAX_PICTURES, Cell, Order, Renderer, moved


@dataclass(frozen=True)
class Setting:
    """Everything one cell is made with."""

    recipe: str
    prompt: str
    seed: int
    sampling: str

    @property
    def row(self) -> tuple[str, int]:
        return self.prompt, self.seed


@dataclass
class Batch:
    """Settings that one job can make: each of its recipes for each of its rows.

    Args:
        places: (row, recipe) -> cells (y, x) it is shown in.
    """

    recipes: list[str] = field(default_factory=list)
    rows: list[tuple[str, int]] = field(default_factory=list)
    places: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, setting: Setting, y: int, x: int) -> None:
        if setting.recipe not in self.recipes:
            self.recipes.append(setting.recipe)
        if setting.row not in self.rows:
            self.rows.append(setting.row)
        key = self.rows.index(setting.row), self.recipes.index(setting.recipe)
        self.places.setdefault(key, []).append((y, x))


class Grids:
    """Makes grids of pictures."""

    def __init__(self, composer: Composer, columns: Columns, renderer: Renderer) -> None:
        self._composer = composer
        self._columns = columns
        self._renderer = renderer

    def compare(
        self,
        flow: Flow,
        axes: Mapping[str, Any],
        recipe: Mapping[str, Any],
        prompt: str,
        base: str,
        sampling: Mapping[str, Any],
        seed: int,
    ) -> Steps:
        """Yields progress and cells; returns what `Renderer.run` does, with columns along x and
        "rows" [{title}] along y; cells carry their exact values in "caption"."""
        x, y = read_axis(axes["x"]), read_axis(axes["y"])
        if (x.kind, x.source) == (y.kind, y.source):
            raise InvalidRequest("Both axes vary the same. Choose two different ones.")
        plan = self._composer.full_ids(Recipe.from_dict(recipe))
        batches = _batches(x, y, Setting(_text(plan), prompt, seed, json.dumps(dict(sampling))))
        total = len(x.values) * len(y.values)
        if total > MAX_PICTURES:
            raise InvalidRequest(f"That is {total} pictures; at most {MAX_PICTURES} are made.")
        result: dict[str, Any] = {}
        cells: list[Cell] = []
        done = 0
        for settings, batch in batches.items():
            order = Order(
                base,
                [self._columns.rendered(Recipe.from_dict(json.loads(r))) for r in batch.recipes],
                batch.rows,
                json.loads(settings),
            )
            place = partial(_placed, batch, x, y)
            share = len(batch.recipes) * len(batch.rows) / total
            steps = moved(self._renderer.run(flow, order), place)
            part = yield from changed(steps, partial(_slower, done / total, share))
            cells += [new for cell in part["cells"] for new in place(cell)]
            result = {**part, "seconds": result.get("seconds", 0) + part["seconds"]}
            done += len(batch.recipes) * len(batch.rows)
        return {
            **result,
            "grid": True,
            "cells": cells,
            "columns": [{"title": _title(x, v), "detail": ""} for v in x.values],
            "rows": [{"title": _title(y, v)} for v in y.values],
        }


def _batches(x: Axis, y: Axis, start: Setting) -> dict[str, Batch]:
    """Sampling -> batch, in the order of the axes."""
    found: dict[str, Batch] = {}
    for row, below in enumerate(y.values):
        for column, above in enumerate(x.values):
            setting = _applied(_applied(start, x, above), y, below)
            found.setdefault(setting.sampling, Batch()).add(setting, row, column)
    return found


def _applied(setting: Setting, axis: Axis, value: Any) -> Setting:
    recipe, sampling = json.loads(setting.recipe), json.loads(setting.sampling)
    prompt, seed = setting.prompt, setting.seed
    if axis.kind == "weight":
        mine = [s for s in recipe["sources"] if s["id"].startswith(axis.source)]
        if len(mine) != 1:
            raise InvalidRequest("The adapter of the weight axis is not in the composition.")
        mine[0]["weight"] = value
    elif axis.kind == "method":
        recipe["compose"] |= {"method": METHODS.get(value).name, "params": {}}
    elif axis.kind == "prompt":
        prompt = value
    elif axis.kind == "seed":
        seed = value
    else:
        sampling[axis.kind] = value
    return Setting(json.dumps(recipe), prompt, seed, json.dumps(sampling))


def _placed(batch: Batch, x: Axis, y: Axis, cell: Cell) -> list[Cell]:
    return [
        {
            **cell,
            "prompt": row,
            "column": column,
            "caption": f"{_title(x, x.values[column])} · {_title(y, y.values[row])}",
        }
        for row, column in batch.places[cell["prompt"], cell["column"]]
    ]


def _slower(start: float, share: float, event: Event) -> Event:
    """Progress of one job of several."""
    if event["type"] != "progress" or event.get("fraction") is None:
        return event
    return {**event, "fraction": start + share * event["fraction"]}


def _title(axis: Axis, value: Any) -> str:
    return METHODS.get(value).title if axis.kind == "method" else axis.label(value)


def _text(recipe: Recipe) -> str:
    return json.dumps(recipe.to_dict())
