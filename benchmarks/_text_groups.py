"""Which of the text demo's adapters are composed together, and what they are tested on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_studio.adapter import Adapter
from lora_studio.demo.tasks import TASKS
from lora_studio.formats import load
from lora_studio.settings import assets_dir

TESTED = ("past", "french", "polite", "json", "negate", "iso_date", "reverse", "plural", "antonym")
TUNED = ("capital", "country", "future", "sentiment", "french_plural", "past_negative", "question",
         "city", "person")  # fmt: skip
"""Tasks that results are reported on, and tasks that defaults were chosen on."""
SIZES = (3, 4, 6, 8)
SETS = {"good-neighbour": "Good neighbours", "plain": "Plain", "shared-seed": "Shared seed"}
TEXT = assets_dir() / "demo" / "text"
Tests = list[tuple[str, str]]


@dataclass(frozen=True)
class Demo:
    """The demo adapters of one set: task -> adapter, and its test prompts."""

    adapters: dict[str, Adapter]
    tests: dict[str, Tests]


def read_set(name: str, folder: Path) -> Demo:
    """Adapters tagged with the set, one per task, those of TESTED and TUNED in that order."""
    adapters, tests = {}, {}
    for path in sorted(folder.glob(f"{name}-*")):
        loaded = load(path)
        task = path.name.removeprefix(f"{name}-").replace("-", "_")
        if loaded.tests:
            adapters[task] = loaded.adapter
            tests[task] = [(t["prompt"], t["target"]) for t in loaded.tests]
    known = [t for t in (*TESTED, *TUNED) if t in adapters]
    known += [t for t in adapters if t not in known]
    return Demo({t: adapters[t] for t in known}, tests)


@dataclass(frozen=True)
class Group:
    """What one column is about: adapters, and tests with the adapter that each is a test of (None:
    of none)."""

    key: str
    adapters: dict[str, Adapter]
    tests: Tests
    owners: list[str | None]
    strangers: list[Adapter]
    title: str
    suite: str = ""

    @property
    def rank(self) -> int:
        """The largest of the sources' ranks."""
        return max(adapter.max_rank for adapter in self.adapters.values())


def pick(tests: Tests, count: int) -> Tests:
    """The same random prompts of a test file in every row of the table."""
    return random.Random(0).sample(tests, min(count, len(tests)))


def groups(prompts: int, demos: Mapping[str, Demo], tuning: bool) -> Iterator[Group]:
    """Groups of single tasks, then tasks that no adapter was trained for and their parts."""
    pool = TUNED if tuning else TESTED
    for name, demo in demos.items():
        known = [t for t in demo.adapters if t in pool]
        for size in SIZES:
            if len(known) < size:
                continue
            tests = {t: pick(demo.tests[t], prompts) for t in known[:size]}
            flat = [pair for t in tests for pair in tests[t]]
            owners: list[str | None] = [t for t in tests for _ in tests[t]]
            chosen = {t: demo.adapters[t] for t in tests}
            key = f"{'tuning-' if tuning else ''}{name}-{size}"
            yield Group(key, chosen, flat, owners, [], f"{SETS[name]}, {size}")
    for name, demo in {} if tuning else demos.items():
        for path in sorted((TEXT / "tests").glob("*.jsonl")):
            parts = list(TASKS.get(path.stem.replace("-", "_")).chained)
            if all(part in demo.adapters for part in parts):
                lines = path.read_text(encoding="utf-8").splitlines()
                pairs = [(t["prompt"], t["target"]) for t in map(json.loads, lines)]
                tests_ = pick(pairs, prompts)
                strangers = [a for t, a in demo.adapters.items() if t not in parts]
                chosen = {t: demo.adapters[t] for t in parts}
                stranger = random.Random(1).choice(strangers)
                task = TASKS.get(path.stem.replace("-", "_")).title
                yield Group(f"chained {path.stem}-{name}", chosen, tests_, [None] * len(tests_),
                            [stranger], f"{task} ({SETS[name].lower()})", path.stem)  # fmt: skip
