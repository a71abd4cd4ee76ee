"""How well compositions of the demo's adapters answer, method by method, with intervals.

    python benchmarks/demo_compositions.py [--prompts 100] [--write]

Groups of 3, 4 and 6 adapters of each set; exact match on held-out prompts by teacher forcing (the
whole answer and its end are the argmax), which equals greedy decoding. `--write` puts the table in
assets/demo/text/COMPOSITIONS.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Merged, compose
from lora_studio.composition.plan import Routed
from lora_studio.demo.tasks import TASKS
from lora_studio.engines.text import RowPlan, ScoreRow, TextEngine
from lora_studio.evaluation.metrics import Rate
from lora_studio.evaluation.probe import EngineProbe
from lora_studio.formats import load
from lora_studio.retrieval.embed import load_embedder
from lora_studio.retrieval.retriever import adapter_texts, centroid
from lora_studio.settings import DEMO_BASE, Settings, assets_dir

ORDER = ("past", "french", "polite", "json", "negate", "iso_date", "reverse", "plural", "antonym")
SIZES = (3, 4, 6)
SETS = ("good-neighbour", "plain", "shared-seed")
Tests = list[tuple[str, str]]


@dataclass(frozen=True)
class Demo:
    """The demo adapters of one set: task -> adapter, and its test prompts."""

    adapters: dict[str, Adapter]
    tests: dict[str, Tests]


def read_set(name: str, folder: Path) -> Demo:
    """Adapters tagged with the set, one per task, in ORDER."""
    adapters, tests = {}, {}
    for path in sorted(folder.glob(f"{name}-*")):
        loaded = load(path)
        task = path.name.removeprefix(f"{name}-").replace("-", "_")
        if loaded.tests:
            adapters[task] = loaded.adapter
            tests[task] = [(t["prompt"], t["target"]) for t in loaded.tests]
    known = [t for t in ORDER if t in adapters]
    known += [t for t in adapters if t not in known]
    return Demo({t: adapters[t] for t in known}, tests)


class Bench:
    """Scores row plans on test prompts; one engine, one embedder."""

    def __init__(self, prompts: int) -> None:
        torch.set_num_threads(1)
        self.engine = TextEngine(DEMO_BASE, "auto", 64)
        self.embedder = load_embedder()
        self.prompts = prompts

    def pick(self, tests: Tests) -> Tests:
        """The same random prompts of a test file in every row of the table."""
        return random.Random(0).sample(tests, min(self.prompts, len(tests)))

    def load(self, adapters: Iterable[Adapter]) -> None:
        """Makes adapters resident under their ids."""
        for adapter in adapters:
            self.engine.bank.add(adapter.id, adapter)

    def rate(self, tests: Tests, plans: list[RowPlan]) -> Rate:
        """Exact match of prompt i under plan i."""
        rows = [
            ScoreRow(str(i), prompt, target, plan)
            for i, ((prompt, target), plan) in enumerate(zip(tests, plans, strict=True))
        ]
        scores = self.engine.score(rows)
        return Rate(sum(s.exact for s in scores), len(scores))

    def merged(self, adapter: Adapter, tests: Tests) -> Rate:
        self.load([adapter])
        return self.rate(tests, [RowPlan(((adapter.id, 1.0),))] * len(tests))

    def routed(self, plan: Routed, adapters: Mapping[str, Adapter], tests: Tests) -> Rate:
        """Each prompt goes where its embedding points."""
        self.load(adapters.values())
        places = {
            a.id: centroid(self.embedder.encode(adapter_texts(a.card)[0]))
            for a in adapters.values()
        }
        vectors = self.embedder.encode([prompt for prompt, _ in tests])
        plans = []
        for vector in vectors:
            row = plan.row({name: float(place @ vector) for name, place in places.items()})
            plans.append(RowPlan(row.terms, row.fuse))
        return self.rate(tests, plans)


def variants(ranks: list[int]) -> Iterator[tuple[str, str, dict[str, object]]]:
    """(label, method, parameters) of every merge in the table."""
    r, everything = max(ranks), sum(ranks)
    mean = 1 / len(ranks)
    yield "linear, weights 1", "linear", {}
    yield "linear, weights 1/n", "linear", {"scale": mean}
    yield "linear, auto-scale", "linear", {"auto_scale": True}
    yield "cat, weights 1 (sum)", "cat", {}
    yield "cat, weights 1/n", "cat", {"scale": mean}
    yield "cat, auto-scale", "cat", {"auto_scale": True}
    yield "svd k=r", "svd", {"rank": r}
    yield "svd k=r, auto-scale", "svd", {"rank": r, "auto_scale": True}
    yield "svd k=2r, auto-scale", "svd", {"rank": 2 * r, "auto_scale": True}
    yield "ties_delta .5", "ties_delta", {"density": 0.5}
    yield "ties_delta .5, auto-scale", "ties_delta", {"density": 0.5, "auto_scale": True}
    for gauge in ("raw", "balanced"):
        for label, k in (("k=r", r), ("k=2r", 2 * r), ("k=half", everything // 2)):
            given = {"rank": k, "gauge": gauge}
            yield f"LEGO {gauge} {label}", "lego", given
            yield f"LEGO {gauge} {label}, auto-scale", "lego", {**given, "auto_scale": True}
    yield "preset (picks one of svd, LEGO, cat)", "preset", {}


def group_rows(bench: Bench, demo: Demo, tasks: list[str]) -> Iterator[tuple[str, Rate]]:
    """(label, exact match over all the group's tasks) for every row of one column."""
    chosen = {t: demo.adapters[t] for t in tasks}
    tests = {t: bench.pick(demo.tests[t]) for t in tasks}
    flat = [pair for t in tasks for pair in tests[t]]
    owners = [t for t in tasks for _ in tests[t]]
    yield "base model", bench.rate(flat, [RowPlan()] * len(flat))
    sources = {a.id: a for a in chosen.values()}
    samples = {a.id: a.card.samples for a in chosen.values()}
    probe = EngineProbe(bench.engine, sources, samples)
    bench.load(chosen.values())
    own = [RowPlan(((chosen[t].id, 1.0),)) for t in owners]
    yield "own adapter", bench.rate(flat, own)
    rng = random.Random(1)
    stray = [
        RowPlan(((rng.choice([a for t, a in chosen.items() if t != o]).id, 1.0),)) for o in owners
    ]
    yield "random other adapter", bench.rate(flat, stray)
    adapters = list(chosen.values())
    for label, method, params in variants([a.max_rank for a in adapters]):
        plan = compose(method, adapters, probe=probe, **params)
        assert isinstance(plan, Merged)
        yield label, bench.merged(plan.adapter, flat)
    for name in ("selection", "mixture", "fusion"):
        plan = compose(name, adapters)
        assert isinstance(plan, Routed)
        title = f"{METHODS.get(name).title.lower()} (routed)"
        yield title, bench.routed(plan, sources_by_id(adapters), flat)


def sources_by_id(adapters: list[Adapter]) -> dict[str, Adapter]:
    return {a.id: a for a in adapters}


def cell(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.rate:.2f} ({low:.2f}–{high:.2f})"


def table(columns: dict[str, dict[str, Rate]]) -> str:
    """Markdown: a row per method, a column per group. The best composition is bold."""
    labels = list(dict.fromkeys(label for rows in columns.values() for label in rows))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    controls = {"base model", "own adapter", "random other adapter"}
    controls |= {label for label in labels if label.endswith(" alone")}
    best = {
        name: max((r.rate for label, r in rows.items() if label not in controls), default=0)
        for name, rows in columns.items()
    }
    for label in labels:
        cells = []
        for name, rows in columns.items():
            rate = rows.get(label)
            text = cell(rate) if rate else ""
            bold = rate and label not in controls and rate.rate == best[name] > 0
            cells.append(f"**{text}**" if bold else text)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chained_rows(bench: Bench, demo: Demo, suite: Path, parts: list[str]) -> dict[str, Rate]:
    """Chained tasks: each part alone, and compositions of the parts."""
    lines = suite.read_text(encoding="utf-8").splitlines()
    tests = bench.pick([(t["prompt"], t["target"]) for t in map(json.loads, lines)])
    adapters = [demo.adapters[t] for t in parts]
    found = {"base model": bench.rate(tests, [RowPlan()] * len(tests))}
    strangers = [a for t, a in demo.adapters.items() if t not in parts]
    found["random other adapter"] = bench.merged(random.Random(1).choice(strangers), tests)
    for number, adapter in enumerate(adapters, 1):
        found[f"part {number} alone"] = bench.merged(adapter, tests)
    samples = {a.id: a.card.samples for a in adapters}
    probe = EngineProbe(bench.engine, sources_by_id(adapters), samples)
    for label, method, params in (
        ("cat, weights 1 (sum)", "cat", {}),
        ("cat, auto-scale", "cat", {"auto_scale": True}),
        ("svd k=2r, auto-scale", "svd", {"rank": 2 * adapters[0].max_rank, "auto_scale": True}),
        (
            "LEGO balanced k=2r, auto-scale",
            "lego",
            {"rank": 2 * adapters[0].max_rank, "gauge": "balanced", "auto_scale": True},
        ),
        ("ties_delta .5, auto-scale", "ties_delta", {"auto_scale": True}),
        ("preset", "preset", {}),
    ):
        plan = compose(method, adapters, probe=probe, **params)
        assert isinstance(plan, Merged)
        found[label] = bench.merged(plan.adapter, tests)
    for name in ("selection", "mixture", "fusion"):
        plan = compose(name, adapters)
        assert isinstance(plan, Routed)
        found[f"{name} (routed)"] = bench.routed(plan, sources_by_id(adapters), tests)
    return found


def chained_suites(demo: Demo) -> Iterator[tuple[Path, list[str]]]:
    """Test files of tasks that no adapter was trained for, with the parts they need."""
    for path in sorted((assets_dir() / "demo" / "text" / "tests").glob("*.jsonl")):
        parts = list(TASKS.get(path.stem.replace("-", "_")).chained)
        if all(part in demo.adapters for part in parts):
            yield path, parts


def measure(prompts: int) -> str:
    """The whole document, as Markdown."""
    bench = Bench(prompts)
    demos = {name: read_set(name, Settings().demo_adapters_dir) for name in SETS}
    groups: dict[str, dict[str, Rate]] = {}
    members: list[str] = []
    for name, demo in demos.items():
        for size in SIZES:
            tasks = list(demo.adapters)[:size]
            if len(tasks) == size:
                start = time.perf_counter()
                groups[f"{name}, {size}"] = dict(group_rows(bench, demo, tasks))
                members.append(f"- **{name}, {size}**: {', '.join(tasks)}")
                logging.info("%s of %d in %.0f s", name, size, time.perf_counter() - start)
    chained = {
        f"{path.stem} ({name})": chained_rows(bench, demos[name], path, parts)
        for name in SETS
        for path, parts in chained_suites(demos[name])
    }
    return DOCUMENT.format(
        prompts=prompts, members="\n".join(members), groups=table(groups), chained=table(chained)
    )


DOCUMENT = """# Compositions of the demo adapters, measured

Written by `python benchmarks/demo_compositions.py --write`. Exact match on up to {prompts} held-out
prompts of each task, with 95 % Wilson intervals; they cover the choice of prompts, not of training
seeds. In bold the best composition of a column. k is the rank of the result, r the largest source
rank, *half* half of all units. *auto-scale* chooses the strength on sample prompts of the sources,
which are never test prompts. The random adapter of the groups is another member of the group, drawn
for each prompt; of the chained tasks, one outsider.

{members}

{groups}

## Chained tasks: no adapter was trained for them

{chained}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=100, help="test prompts of each task")
    parser.add_argument("--write", action="store_true", help="write COMPOSITIONS.md")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    text = measure(options.prompts)
    if options.write:
        (assets_dir() / "demo" / "text" / "COMPOSITIONS.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
