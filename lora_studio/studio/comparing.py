"""Running comparisons and test files: columns and prompts become one generate job."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_studio.compare import Column, all_blobs, cells, make_rows
from lora_studio.demo.tasks import TASKS
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.evaluation.metrics import Rate, exact_match
from lora_studio.evaluation.task_file import read_task_file
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings, assets_dir
from lora_studio.studio.columns import Columns
from lora_studio.studio.flow import Event, Flow, Steps, changed
from lora_studio.studio.librarian import Librarian
from lora_studio.studio.permissions import Actor
from lora_studio.studio.rendering import Order, Renderer
from lora_studio.worker.job import Job

MAX_TEST_PROMPTS = 300
TEST_TOKENS = 64
PATIENCE = 30.0


class Comparer:
    """Answers prompts in several columns and measures answers against targets."""

    def __init__(
        self,
        settings: Settings,
        gallery: Gallery,
        librarian: Librarian,
        columns: Columns,
        renderer: Renderer,
    ) -> None:
        self._settings = settings
        self._renderer = renderer
        self._gallery = gallery
        self._librarian = librarian
        self._columns = columns

    def compare(
        self,
        flow: Flow,
        prompts: Sequence[str],
        requests: Sequence[Mapping[str, Any]],
        base: str,
        sampling: Mapping[str, Any],
        seed: int,
        actor: Actor,
    ) -> Steps:
        """Yields data events with cells; returns {cells, columns, tokens_per_second, seconds}.

        A cell of a routed column has, in the end, `by`: [[title, weight, cosine], ...] of who
        answered; the weight is None where a router decides it token by token.
        """
        found = yield from self._columns.resolve(flow, requests, base, seed, actor)
        columns: list[Column] = found["columns"]
        near = yield from self._near(flow, columns, prompts, base)
        rows = make_rows(columns, prompts, near, sampling, seed)
        job = self._job("generate", base, all_blobs(columns), rows=rows)

        def as_cells(event: Event) -> Event:
            if event["type"] != "data":
                return event
            return {"type": "data", "cells": cells(event["rows"])}

        result = yield from changed(flow.run(job), as_cells)
        answered = cells(result["rows"])
        for cell in answered:
            if columns[cell["column"]].routed is not None:
                row = rows[cell["prompt"] * len(columns) + cell["column"]]
                found = near[cell["column"]]
                cell["by"] = self._who(row, found[cell["prompt"]] if found else {})
        return {
            "cells": answered,
            "columns": [c.to_dict() for c in columns],
            "tokens_per_second": result["tokens_per_second"],
            "tokens": result["tokens"],
            "seconds": result["seconds"],
        }

    def explain(
        self,
        flow: Flow,
        prompt: str,
        text: str,
        request: Mapping[str, Any],
        base: str,
        seed: int,
        actor: Actor,
    ) -> Steps:
        """Returns `Decision.to_dict` of one answer, with titles [[id, title]] of its adapters."""
        found = yield from self._columns.resolve(flow, [request], base, seed, actor)
        column: Column = found["columns"][-1]
        near = yield from self._near(flow, [column], [prompt], base)
        (row,) = make_rows([column], [prompt], near, {}, seed)
        if not row["terms"]:
            raise InvalidRequest("No adapter was near enough to this prompt: none could speak.")
        asked = {**row, "text": text}
        told = yield from flow.run(self._job("trace", base, column.blobs, row=asked))
        titles = [
            [name, self._gallery.get(name).title if self._gallery.has(name) else column.title]
            for name in told["adapters"]
        ]
        return {**told, "titles": titles, "column": column.to_dict()}

    def compare_pictures(
        self,
        flow: Flow,
        prompts: Sequence[str],
        requests: Sequence[Mapping[str, Any]],
        base: str,
        sampling: Mapping[str, Any],
        seed: int,
        actor: Actor,
    ) -> Steps:
        """As `compare`, with pictures in the cells; every prompt has one seed for all columns."""
        found = yield from self._columns.resolve(flow, requests, base, seed, actor)
        rows = [(prompt, seed + place) for place, prompt in enumerate(prompts)]
        return (yield from self._renderer.run(flow, Order(base, found["columns"], rows, sampling)))

    def run_tests(
        self,
        flow: Flow,
        requests: Sequence[Mapping[str, Any]],
        sources: Sequence[str],
        n: int,
        base: str,
        seed: int,
        actor: Actor,
    ) -> Steps:
        """Yields progress; returns the rates of each column on each source's test prompts."""
        tests = [(name, t) for name, chosen in self._suites(sources, n, seed) for t in chosen]
        prompts = [test["prompt"] for _, test in tests]
        sampling = {"max_new_tokens": TEST_TOKENS}
        wanted = len(prompts) * (1 + sum(r.get("kind") != "base" for r in requests))
        done: set[tuple[int, int]] = set()

        def as_progress(event: Event) -> Event:
            if event["type"] != "data":
                return event
            done.update((c["prompt"], c["column"]) for c in event["cells"] if c["done"])
            message = f"{len(done)} of {wanted} answers"
            return {"type": "progress", "fraction": len(done) / wanted, "message": message}

        answers = self.compare(flow, prompts, requests, base, sampling, seed, actor)
        result = yield from changed(answers, as_progress)
        rates: dict[tuple[int, str], Rate] = {}
        for cell in result["cells"]:
            suite, test = tests[cell["prompt"]]
            hit = Rate(int(exact_match(cell["text"], test["target"])), 1)
            rates[cell["column"], suite] = rates.get((cell["column"], suite), Rate(0, 0)) + hit
        rows = [
            {"column": c, "title": result["columns"][c]["title"], "suite": suite, **r.to_dict()}
            for (c, suite), r in sorted(rates.items())
        ]
        return {**result, "rows": rows, "cells": []}

    def _who(self, row: Mapping[str, Any], near: Mapping[str, float]) -> list[list[Any]]:
        """[title, weight or None, cosine or None] of the adapters of a row."""
        return [
            [
                self._gallery.get(name).title if self._gallery.has(name) else "Merged",
                None if row["router"] else round(weight, 3),
                round(near[name], 3) if name in near else None,
            ]
            for name, weight in row["terms"]
        ]

    def _near(
        self, flow: Flow, columns: Sequence[Column], prompts: Sequence[str], base: str
    ) -> Generator[Event, None, list[Sequence[Mapping[str, float]]]]:
        """For each column, for each prompt, id -> cosine or signal; [] where that is not needed."""
        found: list[Sequence[Mapping[str, float]]] = []
        cosines: list[dict[str, float]] = []
        looking = [c.routed for c in columns if c.routed and c.routed.needs_retrieval]
        if any(plan.by == "text" for plan in looking):
            yield from self._librarian.placing(flow.check)
            among = sorted({name for plan in looking for name in plan.weights})
            cosines = self._librarian.similarities(prompts, among, base)
        for column in columns:
            plan = column.routed
            if plan is None or not plan.needs_retrieval:
                found.append([])
            elif plan.by == "text":
                found.append(cosines)
            else:
                blobs = {name: column.blobs[name] for name in plan.weights}
                job = self._job("hear", base, blobs, prompts=list(prompts))
                found.append((yield from flow.run(job))["signals"])
        return found

    def _job(self, kind: str, base: str, adapters: Mapping[str, str], **more: Any) -> Job:
        """A job of the model lane with these adapters (id -> blob path) beside the base."""
        args = {
            "base": base,
            "device": self._settings.device,
            "max_rows": self._settings.max_rows,
            "adapters": dict(adapters),
        }
        return Job(kind, {**args, **more}, "model")

    def _suites(
        self, sources: Sequence[str], n: int, seed: int
    ) -> list[tuple[str, list[dict[str, str]]]]:
        """(title, up to n prompts drawn under the seed) of adapters by id and suites by name."""
        if not sources or not 1 <= n <= MAX_TEST_PROMPTS:
            raise InvalidRequest(f"Choose test files, and 1 to {MAX_TEST_PROMPTS} prompts of each.")
        found: dict[str, list[dict[str, str]]] = {}
        for source in dict.fromkeys(sources):
            title, tests = self._tests(source)
            if tests:
                name, again = title, 1
                while name in found:
                    again += 1
                    name = f"{title} ({again})"
                found[name] = random.Random(seed).sample(tests, min(n, len(tests)))
        if not found:
            raise NotFound("None of these adapters came with test prompts. Upload a test.jsonl.")
        return list(found.items())

    def _tests(self, source: str) -> tuple[str, list[dict[str, str]]]:
        for suite in list_suites():
            if suite["name"] == source:
                text = open_suite(source)
                return suite["title"], text
        entry = self._gallery.get(source)
        return entry.title, self._gallery.tests(entry.id)


def list_suites() -> list[dict[str, str]]:
    """Test files that belong to no adapter: tasks that need several of them at once."""
    names = sorted(path.stem for path in suite_path("").parent.glob("*.jsonl"))
    return [{"name": n, "title": TASKS.get(n).title if n in TASKS else n} for n in names]


def open_suite(name: str) -> list[dict[str, str]]:
    """Prompts and targets of a suite by the name that `list_suites` gives."""
    rows = read_task_file(suite_path(name)).rows
    return [{"prompt": row.prompt, "target": row.reference} for row in rows]


def suite_path(name: str) -> Path:
    """The task file of a suite."""
    return assets_dir() / "demo" / "text" / "tests" / f"{name}.jsonl"
