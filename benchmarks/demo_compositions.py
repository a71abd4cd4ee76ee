"""How well compositions of the demo's adapters answer, method by method, with intervals.

    python benchmarks/demo_compositions.py [--prompts 100] [--only plain-3] [--tuning] [--write]

Every registered merge at equal rank (that of the largest source, and twice that) and every routing
rule, over groups of 3, 4, 6 and 8 adapters; exact match on held-out prompts by teacher forcing (the
whole answer and its end are the argmax), which equals greedy decoding. Each number is kept in a
JSON file of its group as soon as it is known, so that a run that was stopped goes on where it was;
delete a file to measure its group anew. `--tuning` measures the groups that defaults were chosen
on, whose tasks are never in the others. `--write` puts the tables in
assets/demo/text/COMPOSITIONS.md, and the figures beside it, from where the page has them.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import _text_tables
import torch
from _text_groups import SETS, TEXT, Group, Tests, groups, read_set

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Merged, compose
from lora_studio.composition.plan import Routed
from lora_studio.engines.text import RowPlan, TextEngine
from lora_studio.errors import LoraStudioError
from lora_studio.evaluation import leaderboard as boards
from lora_studio.evaluation.asking import exact_rate
from lora_studio.evaluation.leaderboard import Leaderboard, Line
from lora_studio.evaluation.metrics import Rate
from lora_studio.evaluation.plans import heard, row_plans, similarities
from lora_studio.evaluation.probe import EngineProbe
from lora_studio.retrieval.embed import load_embedder
from lora_studio.settings import DEMO_BASE, Settings

CONTROLS = {
    "base model": "Base model",
    "own adapter": "Own adapter",
    "random other adapter": "Random other adapter",
}
COMMAND = "python benchmarks/demo_compositions.py --write"
KEPT = Path(__file__).resolve().parent.parent / ".build" / "demo-text" / "compositions"


class Bench:
    """Scores row plans on test prompts; one engine, one embedder."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.engine = TextEngine(DEMO_BASE, "auto", 64)
        self.embedder = load_embedder()

    def load(self, adapters: Iterable[Adapter]) -> None:
        """Makes adapters resident under their ids."""
        for adapter in adapters:
            self.engine.bank.add(adapter.id, adapter)

    def rate(self, tests: Tests, plans: list[RowPlan]) -> Rate:
        """Exact match of prompt i under plan i."""
        asked = [{"prompt": prompt, "target": target} for prompt, target in tests]
        return exact_rate(self.engine, asked, plans)

    def merged(self, adapter: Adapter, tests: Tests) -> Rate:
        self.load([adapter])
        return self.rate(tests, [RowPlan(((adapter.id, 1.0),))] * len(tests))

    def routed(self, plan: Routed, adapters: Mapping[str, Adapter], tests: Tests) -> Rate:
        """Each prompt goes where its embedding points."""
        self.load(adapters.values())
        named = {a.id: a for a in adapters.values()}
        prompts = [prompt for prompt, _ in tests]
        near = heard(plan, self.engine, prompts, similarities(self.embedder, named, prompts))
        return self.rate(tests, row_plans(plan, near, len(tests), "", self.engine.bank.add))


class Results:
    """The numbers of one group, on disk after each of them."""

    def __init__(self, path: Path, prompts: int) -> None:
        self.path, self.prompts = path, prompts
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["prompts"] == prompts:
                self.rows = known["rows"]

    def ask(self, label: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measures what is not known yet."""
        if label in self.rows:
            return
        start = time.process_time()
        found = measure()
        self.rows[label] = {**found, "cpu_seconds": round(time.process_time() - start, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"prompts": self.prompts, "rows": self.rows}, indent=1)
        self.path.write_text(text + "\n", encoding="utf-8")
        logging.info("%s  %s  %s", self.path.stem, label, found.get("rate", found))


def column(bench: Bench, group: Group, results: Results) -> None:
    """Every row of one column."""
    adapters = list(group.adapters.values())
    flat = group.tests
    rng = random.Random(1)
    results.ask("base model", lambda: bench.rate(flat, [RowPlan()] * len(flat)).to_dict())
    bench.load([*adapters, *group.strangers[:1]])
    if all(group.owners):
        own = [RowPlan(((group.adapters[t].id, 1.0),)) for t in group.owners if t]
        results.ask("own adapter", lambda: bench.rate(flat, own).to_dict())
    others = [
        [a for t, a in group.adapters.items() if o and t != o] or group.strangers[:1]
        for o in group.owners
    ]
    stray = [RowPlan(((rng.choice(o).id, 1.0),)) if o else RowPlan() for o in others]
    results.ask("random other adapter", lambda: bench.rate(flat, stray).to_dict())
    probe = Lazy(bench.engine, adapters)
    for line in lines():
        if line.kind == "merging":
            results.ask(line.label, lambda one=line: merged(bench, group, one, probe()))
        if line.kind == "routing":
            results.ask(line.label, lambda one=line: routed(bench, group, one.method, {}, probe()))


class Lazy:
    """The probe of a group, made when somebody asks for it."""

    def __init__(self, engine: TextEngine, adapters: list[Adapter]) -> None:
        self._made: EngineProbe | None = None
        self._given = (
            engine,
            {a.id: a for a in adapters},
            {a.id: a.card.samples for a in adapters},
        )

    def __call__(self) -> EngineProbe:
        if self._made is None:
            self._made = EngineProbe(*self._given)
        return self._made


def lines() -> Iterator[Line]:
    """The controls, and every registered merge and routing rule: strengths chosen on samples where
    that is offered, everything else as it comes, and the rank as asked where there is one."""
    for label, title in CONTROLS.items():
        yield Line(label, title, "control")
    for found in METHODS:
        if found.kind == "merging":
            names = {p.name for p in found.params}
            given = {"auto_scale": True} if "auto_scale" in names else {}
            if "rank" not in names:
                yield Line(found.title, found.title, "merging", "", found.name, given)
                continue
            for size in boards.SIZES:
                label = f"{found.title}, k={size}"
                yield Line(label, found.title, "merging", size, found.name, given)
    for found in METHODS:
        if found.kind == "routing":
            yield Line(f"{found.title} (routed)", found.title, "routing", "", found.name)


def merged(bench: Bench, group: Group, line: Line, probe: EngineProbe) -> dict[str, Any]:
    """Exact match of a merge, its rank and notes; or why it was refused."""
    try:
        adapters, params = list(group.adapters.values()), dict(line.params)
        if line.size:
            params["rank"] = boards.SIZES[line.size] * group.rank
        plan = compose(line.method, adapters, probe=probe, **params)
    except LoraStudioError as error:
        return {"refused": str(error)}
    assert isinstance(plan, Merged)
    rate = bench.merged(plan.adapter, group.tests)
    return {**rate.to_dict(), "rank": plan.adapter.max_rank, "notes": list(plan.notes)}


def routed(
    bench: Bench, group: Group, method: str, params: Mapping[str, Any], probe: EngineProbe
) -> dict[str, Any]:
    """Exact match under a rule, and its notes if it has something to say."""
    plan = compose(method, list(group.adapters.values()), probe=probe, **params)
    assert isinstance(plan, Routed)
    sources = {a.id: a for a in group.adapters.values()}
    rate = bench.routed(plan, sources, group.tests).to_dict()
    return {**rate, "notes": list(plan.notes)} if plan.notes else rate


def leaderboard(
    columns: Mapping[str, Group], found: Mapping[str, _text_tables.Rows], prompts: int
) -> Leaderboard:
    """The same figures as the page has them."""
    groups = tuple(
        boards.Group(
            key=key,
            title=group.title,
            adapters=tuple((a.id, a.card.title) for a in group.adapters.values()),
            rank=group.rank,
            suite=group.suite,
            about="A task none was trained for, and both are needed for." if group.suite else "",
        )
        for key, group in columns.items()
    )
    kept = ("n", "correct", "rate", "low", "high", "rank", "notes", "refused")
    cells = {
        key: {
            line.label: {name: rows[line.label][name] for name in kept if name in rows[line.label]}
            for line in lines()
            if line.label in rows
        }
        for key, rows in found.items()
    }
    return Leaderboard(
        modality="text",
        base=DEMO_BASE,
        command=COMMAND,
        measure="exact match on held-out prompts",
        prompts=prompts,
        groups=groups,
        lines=tuple(lines()),
        cells=cells,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=100, help="test prompts of each task")
    parser.add_argument("--only", default="", help="only groups whose name begins so")
    parser.add_argument("--tuning", action="store_true", help="the groups defaults were chosen on")
    parser.add_argument("--out", type=Path, default=KEPT, help="folder of JSON")
    parser.add_argument("--write", action="store_true", help="write COMPOSITIONS.md")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bench = Bench()
    demos = {name: read_set(name, Settings().demo_adapters_dir) for name in SETS}
    columns = {g.key: g for g in groups(options.prompts, demos, options.tuning)}
    columns = {k: g for k, g in columns.items() if k.startswith(options.only)}
    found: dict[str, _text_tables.Rows] = {}
    for key, group in columns.items():
        name = key.replace(" ", "-")
        results = Results(options.out / f"{name}.json", options.prompts)
        column(bench, group, results)
        found[key] = results.rows
    members = {key: group.adapters for key, group in columns.items()}
    ranks = {key: group.rank for key, group in columns.items()}
    text = _text_tables.document(members, found, ranks, options.prompts)
    if options.write:
        (TEXT / "COMPOSITIONS.md").write_text(text, encoding="utf-8")
        leaderboard(columns, found, options.prompts).write()
    print(text)


if __name__ == "__main__":
    main()
