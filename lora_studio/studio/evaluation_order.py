"""What an evaluation is of: adapters and recipes from files and gallery, and rows to answer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Recipe, Source
from lora_studio.composition.mergekit import read_any
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.evaluation.asking import TOKENS
from lora_studio.evaluation.task_file import Task, TaskRow, read_task_file, task_of
from lora_studio.formats import load
from lora_studio.formats.carried import carried_recipe
from lora_studio.settings import Settings
from lora_studio.studio.comparing import list_suites, suite_path
from lora_studio.studio.rebuilding import Sources, existing_gallery


@dataclass(frozen=True)
class Order:
    """What is to be evaluated.

    Args:
        tasks: task files, or names of suites; none for the adapters' own test files.
        adapters: files or folders, ids in the gallery, or names of embedded adapters.
        recipes: files that are or carry a recipe.
        methods: registered methods, carried out on the adapters with their default settings.
        base: of all; "" for the one that adapters and recipes name.
        metric: judges all rows; "" leaves it to the task files.
        limit: prompts of each task, drawn under `seed`; 0 for all.
        tokens: of a written answer, at most.
        kept: file of answers; None for the one in the data folder.
    """

    tasks: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    recipes: tuple[Path, ...] = ()
    methods: tuple[str, ...] = ()
    base: str = ""
    metric: str = ""
    limit: int = 0
    seed: int = 0
    tokens: int = TOKENS
    kept: Path | None = None


@dataclass(frozen=True)
class Pool:
    """Adapters by id, with the test rows that came with each, and the files they were read from."""

    adapters: dict[str, Adapter] = field(default_factory=dict)
    tests: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def add(self, adapter: Adapter, tests: Sequence[Mapping[str, Any]] = ()) -> None:
        if adapter.modality != "text":
            raise InvalidRequest(
                f"'{adapter.card.title}' is for an image model; evaluate answers text prompts."
            )
        self.adapters.setdefault(adapter.id, adapter.collected())
        self.tests.setdefault(adapter.id, [dict(test) for test in tests])


def _read_pool(order: Order, settings: Settings) -> Pool:
    pool = Pool()
    with existing_gallery(settings) as gallery:
        for name in order.adapters:
            places = (Path(name), settings.demo_adapters_dir / name)
            path = next((place for place in places if name and place.exists()), None)
            if path is not None:
                loaded = load(path)
                pool.add(loaded.adapter, loaded.tests)
                pool.files.append(path)
            elif gallery is not None:
                entry = gallery.get(name)
                pool.add(gallery.adapter(entry.id), gallery.tests(entry.id))
            else:
                raise NotFound(
                    f"'{name}' is no file, no embedded adapter, and there is no gallery at "
                    f"{settings.data_dir}. Name a file or folder."
                )
    return pool


class Given:
    """What an order asks for, read and checked.

    Args:
        order, settings: the order, and where gallery and default base model are.

    Raises:
        LoraStudioError: what is wrong, and what to do next.
    """

    def __init__(self, order: Order, settings: Settings) -> None:
        self._order, self._settings = order, settings
        self.pool = _read_pool(order, settings)
        self.recipes = [self._recipe(path) for path in order.recipes]
        self.recipes += [(name, self._of_method(name)) for name in order.methods]
        self.base = self._chosen_base()
        self.tasks = self._read_tasks()

    def _recipe(self, path: Path) -> tuple[str, Recipe]:
        """A file's recipe by whole ids; its sources join the pool."""
        recipe = read_any(carried_recipe(path)).recipe
        found = Sources(recipe, self._settings, self.pool.files).found()
        for one in found:
            if one.adapter is not None:
                self.pool.add(one.adapter)
        sources = tuple(one.source for one in found)
        method = METHODS.get(recipe.method)
        recipe = replace(recipe, sources=sources, params=method.checked(recipe.params))
        return f"{method.title} ({path.name})", recipe

    def _of_method(self, name: str) -> Recipe:
        METHODS.get(name).refuse("text")
        if not self.pool.adapters:
            raise InvalidRequest(f"Name the adapters that {name} is to compose.")
        sources = tuple(Source(adapter_id) for adapter_id in self.pool.adapters)
        return Recipe(base={"repo": self._order.base}, sources=sources, method=name)

    def _chosen_base(self) -> str:
        named = {a.card.base_model for a in self.pool.adapters.values()}
        named |= {recipe.base.get("repo", "") for _, recipe in self.recipes}
        bases = sorted(named - {""})
        if self._order.base or not bases:
            return self._order.base or self._settings.base_model
        if len(bases) > 1:
            raise InvalidRequest(
                f"The adapters name several base models ({', '.join(bases)[:200]}). Choose --base."
            )
        return bases[0]

    def _read_tasks(self) -> list[Task]:
        order = self._order
        suites = {suite["name"] for suite in list_suites()}
        found = [
            read_task_file(suite_path(name) if name in suites else Path(name), order.metric)
            for name in order.tasks
        ]
        if not order.tasks:
            found = [
                task_of(name, enumerate(tests, 1), order.metric)
                for name, tests in self.pool.tests.items()
                if tests
            ]
        if not found:
            raise InvalidRequest("Name a task file; none of the adapters came with a test.jsonl.")
        return [replace(task, rows=tuple(self._drawn(task.rows))) for task in found]

    def _drawn(self, rows: Sequence[TaskRow]) -> list[TaskRow]:
        limit = min(self._order.limit or len(rows), len(rows))
        return random.Random(self._order.seed).sample(rows, limit)
