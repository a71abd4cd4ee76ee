"""What the settings of `refit` do, on groups of demo adapters that no reported number comes from.

    python benchmarks/refit_settings.py [--prompts 60]

Exact match on held-out prompts of the group's tasks, and on generic prompts that the base model
answers (copy, find, replace, ...), whose loss is what the guard is there to limit.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from typing import Any

from _text_groups import SETS, TUNED, pick, read_set
from _text_tables import cell
from demo_compositions import Bench

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged, compose
from lora_studio.demo.skills import draw_skill
from lora_studio.engines.text import RowPlan
from lora_studio.evaluation.metrics import Rate
from lora_studio.evaluation.probe import EngineProbe
from lora_studio.settings import Settings

SKILLS = 200


def variants() -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """(label, samples per adapter, method, parameters)."""
    yield "SVD of the sum, auto-scale", 20, "svd", {"auto_scale": True}
    yield "refit, as it comes", 20, "refit", {}
    for teacher in ("own", "sum"):
        yield f"teacher {teacher}", 20, "refit", {"teacher": teacher}
    for guard in (0.0, 0.3, 1.0):
        yield f"guard {guard:g}", 20, "refit", {"guard": guard}
    for ridge in (0.001, 0.03, 0.1):
        yield f"ridge {ridge:g}", 20, "refit", {"ridge": ridge}
    for samples in (3, 5, 10):
        for ridge in (0.01, 0.1):
            yield f"{samples} samples, ridge {ridge:g}", samples, "refit", {"ridge": ridge}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=60, help="test prompts of each task")
    options = parser.parse_args()
    bench, rng = Bench(), random.Random(5)
    skills = [draw_skill(rng) for _ in range(SKILLS)]
    print(f"base model on generic prompts: {bench.rate(skills, [RowPlan()] * SKILLS).rate:.2f}\n")
    for name in list(SETS)[:2]:
        demo = read_set(name, Settings().demo_adapters_dir)
        tasks = [t for t in TUNED if t in demo.adapters][:4]
        adapters = [demo.adapters[t] for t in tasks]
        tests = [pair for t in tasks for pair in pick(demo.tests[t], options.prompts)]
        print(f"**{name}**: {', '.join(tasks)}\n\n| | tasks | generic |\n|---|---|---|")
        for label, samples, method, given in variants():
            plan = compose(method, adapters, probe=probe(bench, adapters, samples), rank=8, **given)
            assert isinstance(plan, Merged)
            rates: list[Rate] = [bench.merged(plan.adapter, t) for t in (tests, skills)]
            print(f"| {label} | {' | '.join(cell(r.to_dict(), 8) for r in rates)} |", flush=True)
        print()


def probe(bench: Bench, adapters: list[Adapter], samples: int) -> EngineProbe:
    """One that knows only so many samples of each adapter."""
    sources = {a.id: a for a in adapters}
    return EngineProbe(bench.engine, sources, {a.id: a.card.samples[:samples] for a in adapters})


if __name__ == "__main__":
    main()
