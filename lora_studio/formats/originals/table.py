"""A family's names in its original code, and what diffusers calls the same modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lora_studio.formats.cuts import Cut

_BLOCK = re.compile(r"([a-z_]+?)_([0-9]{1,3})_(.+)")


def one(path: str) -> Cut:
    """A module that has another name in diffusers and nothing else."""
    return Cut((path,))


def qkv(query: str, key: str, value: str) -> Cut:
    """Queries, keys and values in one matrix, each as high as it is wide."""
    return Cut((query, key, value), (1, 1, 1))


def same(*paths: str) -> dict[str, Cut]:
    """Modules that diffusers names as the original code does."""
    return {path: one(path) for path in paths}


@dataclass(frozen=True)
class Table:
    """Original name -> modules of diffusers; "{}" stands for the number of a block in both.

    Names are found whether written with dots or, as kohya's scripts do, with underscores.
    """

    name: str
    rows: Mapping[str, Cut]
    _found: dict[str, Cut] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain = {name.replace(".", "_"): cut for name, cut in self.rows.items()}
        object.__setattr__(self, "_found", plain)

    def find(self, name: str) -> Cut | None:
        """The modules of diffusers that `name` stands for, or None if it is none of the model's."""
        plain = name.replace(".", "_")
        if plain in self._found:
            return self._found[plain]
        block = _BLOCK.fullmatch(plain)
        cut = self._found.get(f"{block[1]}_{{}}_{block[3]}") if block else None
        if cut is None or block is None:
            return None
        return cut._replace(paths=tuple(path.format(int(block[2])) for path in cut.paths))

    def modules(self) -> frozenset[str]:
        """diffusers' names of all modules, with "{}" for the number of a block."""
        return frozenset(path for cut in self.rows.values() for path in cut.paths)


def choose(tables: Iterable[Table], names: Iterable[str]) -> Table | None:
    """The table that knows most of `names`, the first of several; None if none knows any."""
    wanted = list(names)
    counts = {table.name: sum(map(bool, map(table.find, wanted))) for table in tables}
    best = max(counts, key=lambda name: counts[name], default="")
    return next((t for t in tables if t.name == best and counts[best]), None)
