"""The shipped leaderboards: what every method scored on groups of the demo's adapters.

benchmarks/demo_compositions.py and benchmarks/image_composition.py measure and write them; the page
shows them, and can measure a cell again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from lora_studio.composition import Recipe
from lora_studio.composition.recipe import Source
from lora_studio.errors import NotFound
from lora_studio.settings import assets_dir

SIZES = {"r": 1, "2r": 2}
RATES = ("rate", "low", "high")
Kind = Literal["control", "merging", "routing", "denoising"]


@dataclass(frozen=True)
class Group:
    """One column: adapters that are composed, and what is asked of them.

    Args:
        key: its name in files and addresses.
        title: for people.
        adapters: (id, title) in the order in which they are composed.
        rank: the largest of theirs, "r" in the size of a line.
        suite: name of a test file that belongs to no adapter; "" for the adapters' own tests.
        about: one sentence.
    """

    key: str
    title: str
    adapters: tuple[tuple[str, str], ...]
    rank: int
    suite: str = ""
    about: str = ""


@dataclass(frozen=True)
class Line:
    """One row: a way to compose, or a control.

    Args:
        label: unique in its leaderboard.
        size: rank of the result in source ranks, "r" or "2r"; "" where it is not asked for.
        method, params: as in a recipe, but for the rank that the size says; "", {} for a control.
    """

    label: str
    title: str
    kind: Kind
    size: str = ""
    method: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Leaderboard:
    """Groups x lines, and what was measured.

    Args:
        cells: group key -> line label -> {n, correct, rate, low, high} with the 95 % Wilson
            interval, and what there is of rank, notes, parts {name: rate}; or {refused: reason}.
        prompts: drawn of each task, at most.
    """

    modality: str
    base: str
    command: str
    measure: str
    prompts: int
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def find(self, group: str, label: str) -> tuple[Group, Line]:
        """The column and the row of a cell.

        Raises:
            NotFound: there is no such cell.
        """
        found = next((g for g in self.groups if g.key == group), None)
        line = next((one for one in self.lines if one.label == label), None)
        if found is None or line is None:
            raise NotFound(f"The leaderboard has no cell '{group}', '{label}'.")
        return found, line

    def recipe(self, group: Group, line: Line) -> Recipe:
        """What is composed in a cell.

        Raises:
            NotFound: the line is a control, which composes nothing.
        """
        if not line.method:
            raise NotFound(f"'{line.title}' is a control; there is nothing to compose.")
        sized = {"rank": SIZES[line.size] * group.rank} if line.size else {}
        return Recipe(
            base={"repo": self.base},
            sources=tuple(Source(id) for id, _ in group.adapters),
            method=line.method,
            params={**line.params, **sized},
            modality=self.modality,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)

    def write(self) -> None:
        """Puts it where `shipped` finds it, rates to four digits."""
        told = self.to_dict()
        for lines in told["cells"].values():
            for cell in lines.values():
                cell |= {name: round(cell[name], 4) for name in RATES if name in cell}
        text = json.dumps(told, indent=1, ensure_ascii=False)
        _path(self.modality).write_text(text + "\n", encoding="utf-8")


@lru_cache
def shipped(modality: str) -> Leaderboard:
    """The leaderboard that comes with the package.

    Args:
        modality: "text" or "image".

    Raises:
        NotFound: there is none.
    """
    try:
        data = json.loads(_path(modality).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"There is no leaderboard for '{modality}'.") from error
    groups = tuple(
        Group(**{**g, "adapters": tuple((id, title) for id, title in g["adapters"])})
        for g in data.pop("groups")
    )
    lines = tuple(Line(**line) for line in data.pop("lines"))
    return Leaderboard(**data, groups=groups, lines=lines)


def _path(modality: str) -> Path:
    return assets_dir() / "demo" / modality / "leaderboard.json"
