"""Measures the shipped base and adapters on held-out requests and writes the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lora_studio.demo import cards, report
from lora_studio.demo.base import skill_examples
from lora_studio.demo.evaluate import score
from lora_studio.demo.specs import AdapterSpec, adapter_specs
from lora_studio.demo.tasks import TASKS, Example, Task, adapter_tasks, chained_tasks
from lora_studio.evaluation.metrics import Rate

log = logging.getLogger(__name__)

WRONG_ITEMS = 20
"""Requests of each other task on which an adapter is tried."""

SKILL_ITEMS, SKILL_SEED = 300, 99

SUM_SETS = ("plain", "good-neighbour")


class Bench:
    """The base model, its adapters and the held-out requests; each is loaded when first needed."""

    def __init__(self, root: Path, device: str) -> None:
        from lora_studio.demo.adapters import load_base

        self.device = device
        self.folder = root / "adapters"
        self.specs = {s.name: s for s in adapter_specs() if (self.folder / s.name).is_dir()}
        self.model, self.tokenizer = load_base(root / "base", device)
        self._loaded: set[str] = set()
        self._tests: dict[str, list[Example]] = {}
        self._base_scores: dict[str, Rate] = {}

    def tests(self, task: str) -> list[Example]:
        """The held-out requests of a task."""
        if task not in self._tests:
            self._tests[task] = cards.held_out_examples(TASKS.get(task))
        return self._tests[task]

    def base(self, examples: list[Example]) -> Rate:
        """The base model alone."""
        if not self._loaded:
            return score(self.model, self.tokenizer, examples, self.device)
        with self.model.disable_adapter():
            return score(self.model, self.tokenizer, examples, self.device)

    def base_score(self, task: str) -> Rate:
        """The base model alone on all held-out requests of a task."""
        if task not in self._base_scores:
            self._base_scores[task] = self.base(self.tests(task))
        return self._base_scores[task]

    def switch_to(self, name: str) -> None:
        """Makes one adapter the only active one."""
        from peft import PeftModel

        if not self._loaded:
            path = str(self.folder / name)
            self.model = PeftModel.from_pretrained(self.model, path, adapter_name=name).eval()
        elif name not in self._loaded:
            self.model.load_adapter(str(self.folder / name), adapter_name=name)
        self._loaded.add(name)
        self.model.set_adapter(name)

    def adapter(self, name: str, examples: list[Example]) -> Rate:
        """One adapter at weight 1."""
        self.switch_to(name)
        return score(self.model, self.tokenizer, examples, self.device)

    def sum(self, names: list[str], examples: list[Example]) -> Rate:
        """The exact sum of several adapters' updates."""
        for name in names:
            self.switch_to(name)
        self.model.add_weighted_adapter(names, [1.0] * len(names), "sum", combination_type="cat")
        self.model.set_adapter("sum")
        result = score(self.model, self.tokenizer, examples, self.device)
        self.model.delete_adapter("sum")
        return result


def measure(root: Path, facts: dict[str, Any], device: str) -> None:
    """Scores everything under `root` and writes its REPORT.md."""
    bench = Bench(root, device)
    page = root / "REPORT.md"
    report.put_section(page, "Base", _base_text(bench, facts["base"], root))
    trained = facts["adapters"]
    tasks = [_task_row(bench, task, trained) for task in adapter_tasks()]
    report.put_section(page, "Tasks", report.task_section(tasks))
    rows = [_adapter_row(bench, root, spec, trained) for spec in bench.specs.values()]
    report.put_section(page, "Adapters", report.adapter_section(rows))
    chained = [_chained_row(bench, task) for task in chained_tasks()]
    report.put_section(page, "Chained tasks", report.chained_section(chained))


def _base_text(bench: Bench, facts: dict[str, Any], root: Path) -> str:
    generic = [Example(*pair, "") for pair in skill_examples(SKILL_ITEMS, SKILL_SEED)]
    size = (root / "base" / "model.safetensors").stat().st_size
    total = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
    return (
        f"{facts['parameters']:,} parameters, {size / 1e6:.1f} MB in bf16; one pass over "
        f"{facts['documents']:,} procedural documents ({facts['tokens']:,} tokens), none of them a "
        f"demo task; {facts['cpu_seconds']:,} CPU-seconds. "
        f"All files of the demo: {total / 1e6:.1f} MB. Generic skills (copy, find, replace, quote; "
        f"{SKILL_ITEMS} fresh requests): {report.percent(bench.base(generic))} % exact match."
    )


def _task_row(bench: Bench, task: Task, trained: dict[str, Any]) -> report.TaskRow:
    examples = bench.tests(task.name)
    name = f"plain-{task.name.replace('_', '-')}"
    return report.TaskRow(
        name=task.name,
        holdout=task.holdout,
        train_items=trained.get(name, {}).get("unique_samples", 0),
        test_items=len(examples),
        test_keys=len({e.key for e in examples}),
        base=bench.base_score(task.name),
    )


def _adapter_row(
    bench: Bench, root: Path, spec: AdapterSpec, trained: dict[str, Any]
) -> report.AdapterRow:
    own = bench.adapter(spec.name, bench.tests(spec.task.name))
    others = [
        example
        for task in adapter_tasks()
        if task.name != spec.task.name
        for example in bench.tests(task.name)[:WRONG_ITEMS]
    ]
    log.info("%s: own exact match %.3f", spec.name, own.rate)
    scale = " rsLoRA" if spec.rslora else ""
    return report.AdapterRow(
        name=spec.name,
        task=spec.task.name,
        kind=spec.set,
        shape=f"r {spec.rank}, alpha {spec.alpha}{scale}, {spec.targets}",
        own=own,
        base=bench.base_score(spec.task.name),
        wrong=bench.adapter(spec.name, others),
        cpu_seconds=trained.get(spec.name, {}).get("cpu_seconds", 0.0),
        size=(root / "adapters" / spec.name / "adapter_model.safetensors").stat().st_size,
    )


def _chained_row(bench: Bench, task: Task) -> report.ChainedRow:
    examples = bench.tests(task.name)
    folders = {
        kind: [f"{kind}-{part.replace('_', '-')}" for part in task.chained] for kind in SUM_SETS
    }
    complete = {k: names for k, names in folders.items() if all(n in bench.specs for n in names)}
    singles = [bench.adapter(n, examples) for names in complete.values() for n in names]
    return report.ChainedRow(
        name=task.name,
        parts=task.chained,
        test_items=len(examples),
        base=bench.base_score(task.name),
        best_single=max(singles, key=lambda s: s.rate, default=Rate(0, 0)),
        sums={kind: bench.sum(names, examples) for kind, names in complete.items()},
    )
