"""Streams merges in a process of its own: `full <folder>` under a limit on the size of files,
`memory <folder>` of many adapters; prints one JSON object."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition import Merged, Recipe, Source, run_recipe
from lora_studio.errors import LoraStudioError
from lora_studio.formats import canonical
from lora_studio.gallery.failures import storage_errors

WIDTH, RANK, LAYERS = 4096, 16, 20


def build(seed: int, layers: int, path: Path) -> None:
    rng = np.random.default_rng(seed)
    factors = {
        f"layers.{i}.q_proj": LoraFactors(
            rng.standard_normal((RANK, WIDTH), np.float32),
            rng.standard_normal((WIDTH, RANK), np.float32),
        )
        for i in range(layers)
    }
    canonical.write(Adapter(factors, AdapterCard(base_model="b")), path)


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def merge(method: str, paths: list[Path], out: Path, told=lambda f, m: None) -> None:
    sources = tuple(Source(f"{i:064x}") for i in range(len(paths)))
    read = {s.id: canonical.read(p) for s, p in zip(sources, paths, strict=True)}
    recipe = Recipe({"repo": "b"}, sources, method, {})
    plan = run_recipe(recipe, read.__getitem__, progress=told, stream=True)
    assert isinstance(plan, Merged)
    with storage_errors():
        canonical.write(plan.adapter, out)


def full(folder: Path) -> dict[str, object]:
    paths = [folder / f"source{i}" for i in range(2)]
    for seed, path in enumerate(paths):
        build(seed, 4, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))
    written = 0

    def told(fraction: float, message: str) -> None:
        nonlocal written
        written = max([written, *(p.stat().st_size for p in folder.glob("*.part"))])

    try:
        merge("cat", paths, folder / "out", told)
        error = ""
    except LoraStudioError as caught:
        error = type(caught).__name__
    left = sorted(p.name for p in folder.iterdir() if p not in paths)
    return {"error": error, "written": written, "left": left}


def memory(folder: Path) -> dict[str, object]:
    path = folder / "source"
    build(0, LAYERS, path)
    peaks: list[int] = []

    def told(fraction: float, message: str) -> None:
        peaks.append(anonymous())

    for method in ("lego", "svd", "linear"):
        merge(method, [path] * 2, folder / "out")  # what libraries take once
    before = anonymous()
    for method in ("lego", "linear"):
        merge(method, [path] * 50, folder / "out", told)
    grown = max(peaks) - before
    copies = [np.array(m.A) for _ in range(10) for m in canonical.read(path).factors.values()]
    return {
        "inputs": 50 * path.stat().st_size,
        "grown": grown,
        "all_in_memory": anonymous() - before if copies else 0,
    }


if __name__ == "__main__":
    found = {"full": full, "memory": memory}[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.write(json.dumps(found))
