"""What to do with more adapters than a merge can hold: merge, route, or some of both.

    python benchmarks/many_adapters.py [--prompts 100] [--only plain-8]

Groups of 8, 10 and 18 of the demo's text adapters, exact match on held-out prompts as in
demo_compositions.py, beside the rank that has to be kept. `plain-8` and `good-neighbour-6` have
only tasks that no setting was chosen on; larger groups must take some of the others. Merges are
at the rank of one source and at half of all ranks; "cut and routed" is the plain rival of a mixed
plan: each adapter cut by SVD to rank 1, 2 or 4, and prompts routed to it. Each number is kept as
soon as it is known, under --out.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _text_groups import SETS, TESTED, TUNED, Demo, Group, pick, read_set
from demo_compositions import Bench, Lazy, Results, merged, routed

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged, Routed, compose
from lora_studio.engines.text import RowPlan
from lora_studio.evaluation.leaderboard import Line
from lora_studio.settings import Settings

SIZES = (8, 10, 18)
MERGES = {"svd": {"auto_scale": True}, "lego": {"auto_scale": True}, "refit": {}}


def cut_and_routed(bench: Bench, group: Group, rank: int) -> dict[str, Any]:
    """Every adapter cut to at most `rank`, and each prompt to the nearest."""
    stand_ins, made = {}, {}
    for adapter in group.adapters.values():
        plan = compose("svd", [adapter], rank=min(rank, adapter.max_rank))
        assert isinstance(plan, Merged)
        stand_ins[adapter.id] = f"cut-{adapter.id}"
        made[f"cut-{adapter.id}"] = plan.adapter
    sources = {a.id: a for a in group.adapters.values()}
    rule = Routed("selection", dict.fromkeys(sources, 1.0), 1, stand_ins=stand_ins, made=made)
    return bench.routed(rule, sources, group.tests).to_dict()


def measure(bench: Bench, group: Group, results: Results) -> None:
    """Every row of one group."""
    adapters: list[Adapter] = list(group.adapters.values())
    rank, whole = max(a.max_rank for a in adapters), sum(a.max_rank for a in adapters)
    probe = Lazy(bench.engine, adapters)
    bench.load(adapters)
    own = [RowPlan(((group.adapters[t].id, 1.0),)) for t in group.owners if t]
    results.ask("own adapter", lambda: bench.rate(group.tests, own).to_dict())
    for kept in (rank, whole // 2):
        for name, given in MERGES.items():
            label = f"{name}, rank {kept} kept"
            line = Line(label, name, "merging", "", name, {**given, "rank": kept})
            results.ask(label, lambda one=line: merged(bench, group, one, probe()))
    for part in (4, 2):
        label = f"merge_rest, at most {whole // part} kept"
        params = {"rank": whole // part}
        results.ask(label, lambda p=params: routed(bench, group, "merge_rest", p, probe()))
    for most in (1, 2, 4):
        label = f"cut and routed, {sum(min(most, a.max_rank) for a in adapters)} kept"
        results.ask(label, lambda r=most: cut_and_routed(bench, group, r))
    results.ask(f"selection, {whole} kept", lambda: routed(bench, group, "selection", {}, probe()))


def groups(prompts: int, demos: Mapping[str, Demo], tuning: bool) -> Iterator[Group]:
    """The first tasks of each set that has so many, and all of them where there are fewer."""
    for name, demo in demos.items():
        order = TUNED if tuning else (*TESTED, *TUNED)
        known = [t for t in order if t in demo.adapters]
        sizes = (6, *SIZES) if name == "good-neighbour" else SIZES
        for size in (n for n in sizes if n <= len(known)):
            chosen = {t: demo.adapters[t] for t in known[:size]}
            tests = {t: pick(demo.tests[t], prompts) for t in chosen}
            flat = [pair for t in tests for pair in tests[t]]
            key = f"{'tuning-' if tuning else ''}{name}-{size}"
            owners: list[str | None] = [t for t in tests for _ in tests[t]]
            yield Group(key, chosen, flat, owners, [], f"{SETS[name]}, {size}")


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| | exact match | |", "|---|---|---|"]
    for label, row in found.items():
        said = row.get("notes", [""])[0] if label.startswith("merge_rest") else ""
        rate = f"{row['rate']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
        lines.append(f"| {label} | {rate} | {said} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=100, help="test prompts of each task")
    parser.add_argument("--only", default="", help="only groups whose name begins so")
    parser.add_argument("--tuning", action="store_true", help="tasks that settings were chosen on")
    parser.add_argument("--out", type=Path, default=Path("build/many"), help="folder of JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bench = Bench()
    demos = {name: read_set(name, Settings().demo_adapters_dir) for name in SETS}
    for group in groups(options.prompts, demos, options.tuning):
        if not group.key.startswith(options.only):
            continue
        results = Results(options.out / f"{group.key}.json", options.prompts)
        measure(bench, group, results)
        print(f"\n## {group.key}: {', '.join(group.adapters)}\n\n{table(results.rows)}")


if __name__ == "__main__":
    main()
