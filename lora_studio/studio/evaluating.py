"""Task files answered by adapters and compositions, without a running studio: every way with its
controls, its interval and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Plan, Recipe, Routed, choose_units, run_recipe
from lora_studio.composition.verdict import random_adapter
from lora_studio.evaluation.asking import Asker, Report
from lora_studio.evaluation.contest import CONTROLS, Contender, Contest, Outcome, kept, told
from lora_studio.evaluation.ledger import Ledger
from lora_studio.evaluation.metrics import METRICS
from lora_studio.evaluation.plans import heard, row_plans, similarities
from lora_studio.evaluation.task_file import TaskRow
from lora_studio.settings import Settings
from lora_studio.studio.evaluation_order import Given, Order

if TYPE_CHECKING:
    from lora_studio.engines.text import TextEngine

KEPT = Path("evaluations") / "answers.jsonl"
"""Where answers are kept in the data folder."""
Told = Callable[[float, str], None]


def evaluate(
    order: Order, settings: Settings, progress: Told = lambda fraction, message: None
) -> dict[str, Any]:
    """Plain JSON: {base, kept, asked, tables: [{metric, title, best, tasks: {name: prompts},
    rows}]}, a table for each metric; a row is `contest.told` against the controls, and {tasks} of
    it.

    What was answered before is not asked again: see `evaluation.ledger`.

    Raises:
        LoraStudioError: what is wrong with what was given, and what to do next.
    """
    bench = _Bench(order, settings, progress)
    tables = [bench.table(metric) for metric in bench.metrics]
    return {
        "base": bench.base,
        "kept": str(bench.ledger.path),
        "asked": len(bench.ledger) - bench.before,
        "tables": tables,
    }


class _Bench:
    """The engine, the pool, and what is compared on it."""

    def __init__(self, order: Order, settings: Settings, progress: Told) -> None:
        self._order, self._settings, self._progress = order, settings, progress
        given = Given(order, settings)
        self._pool, self._recipes, self._tasks = given.pool.adapters, given.recipes, given.tasks
        self.base = given.base
        self.metrics = list(dict.fromkeys(row.metric for task in self._tasks for row in task.rows))
        self.ledger = Ledger(order.kept or settings.data_dir / KEPT)
        self.before = len(self.ledger)
        self._done, self._ways = 0, 0
        self._made: dict[str, Adapter] = {}
        self._plans: dict[str, Plan] = {}
        self._loaded: TextEngine | None = None

    @property
    def _engine(self) -> TextEngine:
        if self._loaded is None:
            from lora_studio.engines.text import TextEngine

            self._progress(0.0, f"loading {self.base}")
            self._loaded = TextEngine(self.base, self._settings.device, self._settings.max_rows)
        return self._loaded

    def table(self, metric: str) -> dict[str, Any]:
        """All ways on the rows of one metric."""
        rows = [
            (task.name, row) for task in self._tasks for row in task.rows if row.metric == metric
        ]
        contest = self._contest([row for _, row in rows])
        self._ways += 3 + len(self._pool) + len(self._recipes)
        controls = contest.controls(self._owners(metric))
        composed = [self._composed(title, recipe, contest) for title, recipe in self._recipes]
        found = [*controls[: len(CONTROLS)], *composed, *controls[len(CONTROLS) :]]
        against = [one for one in controls if one.label in CONTROLS]
        places: dict[str, list[int]] = {}
        for place, (task, _) in enumerate(rows):
            places.setdefault(task, []).append(place)
        return {
            "metric": metric,
            "title": METRICS.get(metric).title,
            "best": METRICS.get(metric).best,
            "tasks": {task: len(at) for task, at in places.items()},
            "rows": [{**told(one, against), "tasks": _by_task(one, places)} for one in found],
        }

    def _contest(self, rows: list[TaskRow]) -> Contest:
        pool = self._pool
        stranger = random_adapter(next(iter(pool.values()))) if pool else None
        if stranger is not None:
            self._made[stranger.id] = stranger
        contents = {name: adapter.id for name, adapter in self._made.items()}
        asker = Asker(self._engine, contents, self.ledger, self._order.tokens)
        name = stranger.id if stranger is not None else ""
        return Contest(asker, rows, pool, name, self._ready, self._report)

    def _ready(self, names: Collection[str]) -> None:
        known = {**self._pool, **self._made}
        for name in names:
            if not self._engine.bank.has(name):
                self._engine.bank.add(name, known[name], keep=names)

    def _report(self, label: str) -> Report:
        self._done += 1
        before = self._done - 1

        def report(done: int, of: int) -> None:
            share = (before + done / max(of, 1)) / max(self._ways, 1)
            self._progress(min(share, 1.0), f"{label}: {done} of {of} to ask")

        return report

    def _composed(self, title: str, recipe: Recipe, contest: Contest) -> Outcome:
        if title not in self._plans:
            self._plans[title] = self._carried_out(title, recipe)
        plan = self._plans[title]
        prompts = [row.prompt for row in contest.rows]
        near: Sequence[Mapping[str, float]] = []
        if isinstance(plan, Routed) and plan.by == "activation":
            self._ready(list(plan.weights))
            near = heard(plan, self._engine, prompts, near)
        elif isinstance(plan, Routed) and plan.needs_retrieval:
            from lora_studio.retrieval.embed import load_embedder
            from lora_studio.retrieval.head import usable_head

            among = {name: self._pool[name] for name in plan.weights}
            embedder, head = load_embedder(self._settings.embedder), usable_head(self._settings)
            near = similarities(embedder, among, prompts, head)
        names: list[str] = []

        def keep(name: str, adapter: Adapter) -> None:
            names.append(name)
            self._made[name] = adapter
            self._engine.bank.add(name, adapter)
            contest.asker.contents[name] = adapter.id

        plans = row_plans(plan, near, len(prompts), f"composed {title}", keep)
        acting = {**self._pool, **{name: self._made[name] for name in names}}
        used = plan.answerers if isinstance(plan, Routed) else names
        size = kept([acting[name] for name in used])
        kind = METHODS.get(recipe.method).kind
        shown: Any = "routing" if kind == "routing" else "merging"
        return contest.outcome(Contender(title, shown, tuple(plans), *size, plan.notes))

    def _carried_out(self, title: str, recipe: Recipe) -> Plan:
        probe = None
        if METHODS.get(recipe.method).tunes(recipe.params):
            from lora_studio.evaluation.probe import EngineProbe

            self._progress(0.0, f"{title}: asking each source what it makes of its samples")
            sources = {s.id: choose_units(self._pool[s.id], s) for s in recipe.active}
            samples = {name: adapter.card.samples for name, adapter in sources.items()}
            probe = EngineProbe(self._engine, sources, samples)

        def progress(fraction: float, message: str) -> None:
            self._progress(self._done / max(self._ways, 1), f"{title}: {message}")

        return run_recipe(recipe, self._pool.__getitem__, probe=probe, progress=progress)

    def _owners(self, metric: str) -> list[str] | None:
        """Whose test each row is, where the tests are the adapters' own."""
        if self._order.tasks:
            return None
        return [task.name for task in self._tasks for row in task.rows if row.metric == metric]


def _by_task(outcome: Outcome, places: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    return {task: outcome.estimate(at).to_dict() for task, at in places.items()}
