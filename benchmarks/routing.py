"""The protocol of LoraRetriever and RAMoLE on the demo's adapters: routing against its controls.

    python benchmarks/routing.py [--quick] [--only stream] [--prompts 40] [--seconds 400] [--write]

Every registered routing rule, and in the mixed stream every registered merge, beside base, best
single adapter, random adapter and perfect selection; see `lora_studio.evaluation.protocol`. Each
answer is kept under a hash of what was asked, and each composition that needs the model under its
sources and parameters, so that a run that was stopped, or that ran out of --seconds, goes on where
it was (--fresh composes anew). --quick is a minute's look. --write puts the tables in
docs/routing_results.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _routing_tables
import torch
from _remembered import Remembered
from _routing_material import material
from demo_compositions import KEPT, Lazy, lines

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, compose
from lora_studio.composition.router_weights import fitted_router
from lora_studio.demo.tasks import TASKS
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.errors import InvalidRequest, LoraStudioError
from lora_studio.evaluation import protocol
from lora_studio.evaluation.asking import Asker
from lora_studio.evaluation.contest import (
    BASE,
    BEST,
    PERFECT,
    RANDOM,
    Contender,
    Contest,
    Outcome,
    kept,
)
from lora_studio.evaluation.leaderboard import SIZES, Line
from lora_studio.evaluation.ledger import Ledger
from lora_studio.evaluation.plans import alone, heard, row_plans, similarities
from lora_studio.evaluation.protocol import Case, Member, Scenario
from lora_studio.evaluation.task_file import TaskRow
from lora_studio.retrieval.embed import load_embedder
from lora_studio.retrieval.head import load_head, shipped_head
from lora_studio.settings import DEMO_BASE

FOLDER = KEPT.parent / "routing"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "routing_results.md"
OF_TASK = "best single of each task"
TRAINED = "Selection, trained retriever (routed)"
ALSO = (
    Line("Mixture by similarity (routed)", "", "routing", "", "mixture", {"temperature": 0.05}),
    Line("Mixture unless one leads (routed)", "", "routing", "", "mixture", {"gap": 0.05}),
)
"""Rules away from their defaults; the figures were not chosen on anything."""
PARTS = _routing_tables.PARTS


class OutOfTime(Exception):
    """The seconds of this run are used up."""


class Bench:
    """One engine, one embedder, one ledger."""

    def __init__(self, folder: Path, seconds: float, fresh: bool) -> None:
        torch.set_num_threads(1)
        self.engine = TextEngine(DEMO_BASE, "auto", 64)
        self.embedder = Remembered(load_embedder())
        self.asker = Asker(self.engine, ledger=Ledger(folder / "answers.jsonl"))
        self.ends = time.monotonic() + seconds
        self.composed = folder / "composed"
        self.fresh = fresh

    def check(self) -> None:
        if time.monotonic() > self.ends:
            raise OutOfTime

    def keep(self, name: str, adapter: Adapter) -> None:
        """Makes an adapter resident; under a name it shares with others, this one from now on."""
        self.asker.contents[name] = adapter.id
        self.engine.bank.add(name, adapter)

    def known(self, asked: str, make: Callable[[], Outcome]) -> Outcome:
        """A composition's outcome, from disk if it was made of the same before."""
        path = self.composed / f"{hashlib.sha256(asked.encode()).hexdigest()[:24]}.json"
        if path.exists() and not self.fresh:
            told = json.loads(path.read_text(encoding="utf-8"))
            listed = {k: tuple(told[k]) for k in ("values", "tokens", "notes")}
            return Outcome(**{**told, **listed})
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(found)), encoding="utf-8")
        return found


@dataclass
class Meeting:
    """One scenario at work."""

    bench: Bench
    scenario: Scenario

    def __post_init__(self) -> None:
        rows = [TaskRow(case.prompt, case.reference) for case in self.scenario.cases]
        self.contest = Contest(self.bench.asker, rows, {}, check=self.bench.check)
        for member in self.scenario.pool:
            self.bench.keep(member.name, member.adapter)
        every = {member.name: member.adapter for member in self.scenario.pool}
        prompts = [case.prompt for case in self.scenario.cases]
        self.near = similarities(self.bench.embedder, every, prompts)
        head = load_head(shipped_head())
        self.near_by_head = similarities(self.bench.embedder, every, prompts, head)
        self.probe = Lazy(self.bench.engine, list(every.values()))

    def outcomes(self, merges: bool) -> Iterator[Outcome]:
        """Controls, routing rules, and where the scenario has them merges of the whole pool."""
        yield from self.controls()
        for line in (*lines(), *ALSO):
            self.bench.check()
            tunes = bool(line.method) and METHODS.get(line.method).tunes(line.params)
            if line.kind == "routing" and not tunes:
                yield self.routed(line, self.near)
            elif line.method and line.size != "r" and self.scenario.static and merges:
                yield self.composed(line)
        yield self.routed(Line(TRAINED, "", "routing", "", "selection"), self.near_by_head)

    def controls(self) -> Iterator[Outcome]:
        cases, pool = self.scenario.cases, self.scenario.pool
        size = kept([member.adapter for member in pool])
        yield self.ask(BASE, "control", [RowPlan()] * len(cases))
        best = self._ranked(self.scenario.tuning)
        one = kept([best[0].adapter])
        about = f"{best[0].adapter.card.title}, chosen on other prompts"
        yield self.ask(BEST, "control", [self._first(best, c) for c in cases], one, (about,))
        if self.scenario.masked:
            by_task = {
                task: self._ranked([c for c in self.scenario.tuning if c.task == task])
                for task in {case.task for case in cases}
            }
            plans = [self._first(by_task[case.task], case) for case in cases]
            yield self.ask(OF_TASK, "control", plans, size, ("needs to be told the task",))
        rng = random.Random(0)
        drawn = [alone(rng.choice(self.scenario.allowed(case)).name) for case in cases]
        yield self.ask(RANDOM, "control", drawn, size)
        if all(case.own for case in cases):
            yield self.ask(PERFECT, "control", [alone(case.own) for case in cases], size)
        else:
            parts = set(TASKS.get(cases[0].task).chained)
            two = [member.adapter for member in pool if member.task in parts]
            plan = RowPlan(tuple((adapter.id, 1.0) for adapter in two))
            yield self.ask(PARTS, "control", [plan] * len(cases), kept(two))

    def routed(self, line: Line, similarity: Sequence[Mapping[str, float]]) -> Outcome:
        """A rule that needs no model, composed for every pool that prompts may meet.

        Args:
            similarity: of each prompt, by adapter.
        """
        plans: list[RowPlan] = [RowPlan()] * len(self.scenario.cases)
        for pool, places in self.scenario.pools():
            plan = compose(line.method, [member.adapter for member in pool], **line.params)
            prompts = [self.scenario.cases[place].prompt for place in places]
            near = [similarity[place] for place in places]
            near = heard(plan, self.bench.engine, prompts, near)
            found = row_plans(plan, near, len(places), line.label, self.bench.keep)
            for place, row in zip(places, found, strict=True):
                plans[place] = row
        size = kept([member.adapter for member in self.scenario.pool])
        try:
            return self.ask(line.label, "routing", plans, size)
        except InvalidRequest as error:  # a gate that was fitted without some of the pool
            return refused(line, error)

    def composed(self, line: Line) -> Outcome:
        """What takes its time to compose: made once of the same."""
        adapters = [member.adapter for member in self.scenario.pool]
        params = dict(line.params)
        if line.size:
            params["rank"] = SIZES[line.size] * max(a.max_rank for a in adapters)
        cases = [(case.prompt, case.reference) for case in self.scenario.cases]
        asked = json.dumps([line.method, params, [a.id for a in adapters], cases])

        def make() -> Outcome:
            logging.info("%s: %s", self.scenario.key, line.label)
            try:
                plan = compose(line.method, adapters, probe=self.probe(), **params)
            except LoraStudioError as error:
                return refused(line, error)
            found: list[Adapter] = []

            def keep(name: str, adapter: Adapter) -> None:
                found.append(adapter)
                self.bench.keep(name, adapter)

            plans = row_plans(plan, self.near, len(cases), "merged", keep)
            names = {name for one in plans for name in one.ids}
            acting = found + [a for a in adapters if a.id in names]
            return self.ask(line.label, line.kind, plans, kept(acting), tuple(plan.notes))

        return self.bench.known(asked, make)

    def ask(
        self,
        label: str,
        kind: Any,
        plans: Sequence[RowPlan],
        size: tuple[int, int] = (0, 0),
        notes: tuple[str, ...] = (),
    ) -> Outcome:
        return self.contest.outcome(Contender(label, kind, tuple(plans), *size, notes))

    def _ranked(self, tuning: Sequence[Case]) -> list[Member]:
        """The pool, the best on these prompts first; a prompt counts for those who may answer."""
        rows = [TaskRow(case.prompt, case.reference) for case in tuning]
        contest = replace(self.contest, rows=rows)

        def share(member: Member) -> float:
            plans = (alone(member.name),) * len(rows)
            found = contest.outcome(Contender(member.name, "adapter", plans))
            mine = [v for v, case in zip(found.values, tuning, strict=True)
                    if member in self.scenario.allowed(case)]  # fmt: skip
            return sum(mine) / len(mine) if mine else 0.0

        known = [m for m in self.scenario.pool if m.task] or list(self.scenario.pool)
        return sorted(known, key=lambda m: (-share(m), m.name))

    def _first(self, ranked: Sequence[Member], case: Case) -> RowPlan:
        allowed = {member.name for member in self.scenario.allowed(case)}
        return alone(next(member.name for member in ranked if member.name in allowed))


def refused(line: Line, error: LoraStudioError) -> Outcome:
    """What there is to say of a way that cannot be tried."""
    kind: Any = line.kind
    return Outcome(line.label, kind, "exact_match", (), (), 0, notes=(str(error),))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=40, help="reported prompts of each task")
    parser.add_argument("--only", default="", help="only scenarios whose name begins so")
    parser.add_argument("--quick", action="store_true", help="few tasks and prompts, no merges")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after these; run again")
    parser.add_argument("--fresh", action="store_true", help="compose anew what was kept")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of answers")
    parser.add_argument("--write", action="store_true", help="write docs/routing_results.md")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write is for the whole protocol: leave out --quick and --only")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    prompts = 6 if options.quick else options.prompts
    bench = Bench(options.out, options.seconds, options.fresh)
    found: list[tuple[Scenario, list[Outcome]]] = []
    given = material(prompts, options.quick)
    try:
        for scenario in protocol.scenarios(given):
            if not scenario.key.startswith(options.only):
                continue
            outcomes: list[Outcome] = []
            found.append((scenario, outcomes))
            for outcome in Meeting(bench, scenario).outcomes(merges=not options.quick):
                outcomes.append(outcome)
            logging.info("%s: %d ways", scenario.key, len(outcomes))
    except OutOfTime:
        logging.info("Out of time; run the same again to go on.")
    else:
        fitted = fitted_router(DEMO_BASE, "router_lora").facts["adapters"]
        text = _routing_tables.document(found, prompts, fitted)
        print(text)
        if options.write:
            PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
