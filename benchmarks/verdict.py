"""How long a verdict takes on large adapters, how near its figures are, and how far its order of
methods agrees with measured answers.

    python benchmarks/verdict.py [--adapters 10] [--rank 16] [--layers 32] [--real svd,lego,cat]
                                 [--measured FOLDER]

Builds adapters shaped for a model of 7 billion parameters (7 projections a layer) in a temporary
folder, about 160 MB each at rank 16. `--real` also runs merges on them and prints what was foretold
beside what came. `--measured` names the folder that `demo_compositions.py --out` wrote; for each
group in it the rank correlation (Spearman) of score and exact match over its merges is printed.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition import METHODS, Merged, Recipe, Source, compose
from lora_studio.composition.cosines import cosines
from lora_studio.composition.verdict import nature as natures
from lora_studio.composition.verdict import verdict
from lora_studio.formats import canonical, load
from lora_studio.settings import Settings, assets_dir
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import handler

WIDTHS = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (4096, 4096),
    "self_attn.v_proj": (4096, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (4096, 11008),
    "mlp.up_proj": (4096, 11008),
    "mlp.down_proj": (11008, 4096),
}
MEASURED = assets_dir() / "demo" / "text" / "compositions"
TASKS = ("past", "french", "polite", "json", "negate", "iso_date", "reverse", "plural", "antonym")


def build(folder: Path, count: int, rank: int, layers: int) -> dict[str, Path]:
    """Random adapters with some common directions and falling singular values; id -> file."""
    rng = np.random.default_rng(0)
    common = {width: rng.standard_normal((4, width), np.float32) for width in (4096, 11008)}
    files: dict[str, Path] = {}
    for i in range(count):
        factors: dict[str, LoraFactors] = {}
        for layer in range(layers):
            fall = 0.9 ** np.arange(rank, dtype=np.float32)
            for kind, (d_in, d_out) in WIDTHS.items():
                a = rng.standard_normal((rank, d_in), np.float32)
                a += rng.standard_normal((rank, 4), np.float32) @ common[d_in] * 0.3
                b = rng.standard_normal((d_out, rank), np.float32) * fall * 1e-3
                factors[f"model.layers.{layer}.{kind}"] = LoraFactors(a, b)
        name = f"{i:064x}"
        files[name] = folder / f"{name}.safetensors"
        canonical.write(Adapter(factors, AdapterCard(base_model="7b")), files[name])
    return files


class Worker:
    """Runs the tasks of a verdict here, as the studio's worker does."""

    def __init__(self, files: Mapping[str, Path], folder: Path) -> None:
        self.files, self.folder = files, folder
        self.fresh()

    def fresh(self) -> None:
        """A worker that has just begun: nothing in memory, methods never tried."""
        natures._nature.cache_clear()
        self.ctx = JobContext(lambda _: None, lambda *_: None, lambda: False, self.folder)

    def gather(self) -> float:
        blobs = [str(path) for path in self.files.values()]
        return clocked(lambda: self.run("gather_statistics", blobs=blobs))[0]

    def step(self, weight: float = 1.0, which: str = "some", within: float = 0.12) -> Any:
        sources = tuple(Source(i, weight if k == 0 else 1.0) for k, i in enumerate(self.files))
        ids = {name: name for name in self.files}
        recipe = Recipe({"repo": "7b"}, sources, "svd").to_dict()
        args = {"recipe": recipe, "digests": ids, "titles": ids, "which": which, "within": within}
        return self.run("verdict", **args)

    def run(self, kind: str, **args: Any) -> Any:
        return handler(kind)({**args, "root": str(self.folder / "statistics")}, self.ctx)


def clocked(action: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = action()
    return time.perf_counter() - start, found


def speed(worker: Worker) -> None:
    """Prints the time of each step a page waits for."""
    print(f"first comparison of these adapters: {worker.gather():.1f} s")
    taken = sum(f.stat().st_size for f in (worker.folder / "statistics").rglob("*.stats"))
    print(f"statistics on disk: {taken / 1e6:.1f} MB")
    cases = [("from disk, worker just begun", 1.0, True), ("from disk", 1.0, False)]
    cases += [("weight moved", 0.9, None), ("weight moved again", 0.8, None)]
    for label, weight, new in cases:
        if new:
            worker.fresh()
        elif new is False:
            worker.ctx.state.clear()
        first, found = clocked(lambda w=weight: worker.step(w))
        whole, steps = first, 1
        rows = sum(row["cosines"] is not None for row in found["methods"])
        while found["left"]:
            more, found = clocked(lambda w=weight: worker.step(w, within=1.0))
            whole, steps = whole + more, steps + 1
        told = sum(row["cosines"] is not None for row in found["methods"])
        print(
            f"{label}: first answer {1000 * first:.0f} ms ({rows} methods), short table of {told} "
            f"methods {1000 * whole:.0f} ms in {steps} steps; {found['tried']} of "
            f"{found['modules']} modules tried"
        )
    seconds, found = 0.0, {"left": 1, "methods": []}
    while found["left"]:
        more, found = clocked(lambda: worker.step(0.8, "all", 1.0))
        seconds += more
    told = sum(row["cosines"] is not None for row in found["methods"])
    print(f"all methods: {seconds:.1f} s, {told} of {len(found['methods'])} foretold")


def truth(worker: Worker, names: list[str]) -> None:
    """Prints foretold and real figures of merges."""
    adapters = [canonical.read(path) for path in worker.files.values()]
    found = worker.step(which="all", within=60.0)
    while found["left"]:
        found = worker.step(which="all", within=60.0)
    for name in names:
        row = next(r for r in found["methods"] if r["name"] == name)
        took, plan = clocked(lambda n=name, p=row["params"]: compose(n, adapters, **p))
        assert isinstance(plan, Merged)
        real = np.array(cosines(plan.adapter, adapters))
        apart = np.abs(real - np.array(row["cosines"])).max() if row["cosines"] else np.nan
        print(
            f"{name}: {row['how']}; cosines off by {apart:.4f} at most (mean {real.mean():.3f}); "
            f"foretold {row['seconds']} s, took {took:.1f} s; rank {row['rank']} and "
            f"{plan.adapter.max_rank}; {row['bytes']} and {4 * plan.adapter.parameters} bytes"
        )


def agreement(folder: Path) -> None:
    """Prints how the order of merges agrees with measured exact match, group by group."""
    files = sorted(folder.glob("*-[0-9].json"))
    if not files:
        print(
            f"no measured groups in {folder}: python benchmarks/demo_compositions.py --out FOLDER"
        )
    correlations = []
    for path in files:
        rates = json.loads(path.read_text(encoding="utf-8"))["rows"]
        kind, _, count = path.stem.rpartition("-")
        scores, measured = [], []
        for rank in ("k=r", "k=2r", ""):
            foretold = _scores(kind, int(count), rank)
            for label, row in rates.items():
                title, _, cut = label.partition(", k=")
                if f"k={cut}" * bool(cut) == rank and title in foretold and "rate" in row:
                    scores.append(foretold[title])
                    measured.append(row["rate"])
        if len(scores) > 2:
            correlations.append(spearman(scores, measured))
            print(f"{path.stem}: {correlations[-1]:.2f} over {len(scores)} merges")
    if correlations:
        print(f"mean rank correlation: {np.mean(correlations):.2f}")


def _scores(kind: str, count: int, rank: str) -> dict[str, float]:
    """Title -> score of every merge of a group at this rank; "" for those without one."""
    folder = Settings().demo_adapters_dir
    places = [folder / f"{kind}-{task.replace('_', '-')}" for task in TASKS]
    adapters = [load(place).adapter for place in places if place.exists()][:count]
    most = max(adapter.max_rank for adapter in adapters)
    wanted = 2 * most if rank == "k=2r" else most
    ranked = {m.title for m in METHODS if any(p.name == "rank" for p in m.params)}
    found = verdict(adapters, method="svd", rank=wanted)
    return {
        row["title"]: row["score"]
        for row in found["methods"]
        if row["score"] is not None and (row["title"] in ranked) == bool(rank)
    }


def spearman(one: list[float], two: list[float]) -> float:
    """Correlation of ranks, ties at their mean rank."""
    ranks = [np.searchsorted(np.sort(x), x, "left") / 2 for x in (one, two)]
    ranks = [
        r + np.searchsorted(np.sort(x), x, "right") / 2
        for r, x in zip(ranks, (one, two), strict=True)
    ]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--adapters", type=int, default=10)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--real", default="", help="merges to run for real, comma between")
    parser.add_argument("--measured", type=Path, default=MEASURED)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = build(Path(folder), options.adapters, options.rank, options.layers)
        worker = Worker(files, Path(folder))
        speed(worker)
        if options.real:
            truth(worker, options.real.split(","))
    agreement(options.measured)


if __name__ == "__main__":
    main()
