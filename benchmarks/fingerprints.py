"""Whether the numbers of an adapter alone tell what it was trained for.

    python benchmarks/fingerprints.py

Of the demo's adapters, those for whose task another was trained on its own: how often that one is
the nearest by cosine of updates (copies, noise and adapters from a shared seed stay out). Cosines
are exact, or of fingerprints P (B A) Q of every module, P and Q random signs, which depend on the
update alone, whatever its rank and basis; also of the sketch that the gallery finds copies by. At
the end, by how much the nearest stands out.
"""

from __future__ import annotations

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.demo.specs import adapter_specs
from lora_studio.formats import load_adapter
from lora_studio.rank_units.sketch import sketch
from lora_studio.settings import Settings

SIDES = (2, 4, 8, 16)
DRAWS = 5
"""Fingerprints under as many seeds; the mean is told."""


def fingerprint(adapter: Adapter, names: list[str], side: int, seed: int) -> np.ndarray:
    """(len(names) * side * side,) of length 1; zeros stand for modules it does not have."""
    blocks = [np.zeros((side, side)) for _ in names]
    for place, name in enumerate(names):
        module = adapter.factors.get(name)
        if module is None:
            continue
        rng = np.random.default_rng([seed, place])
        left = rng.choice([-1.0, 1.0], (side, module.d_out))
        right = rng.choice([-1.0, 1.0], (side, module.d_in))
        blocks[place] = module.scaling * (left @ module.B) @ (module.A @ right.T)
    whole = np.concatenate([block.ravel() for block in blocks])
    return whole / np.linalg.norm(whole)


def exact(adapters: list[Adapter]) -> np.ndarray:
    """(n, n) cosines of the updates as long vectors."""
    inner = np.zeros((len(adapters), len(adapters)))
    for i, one in enumerate(adapters):
        for j, two in enumerate(adapters[: i + 1]):
            shared = one.factors.keys() & two.factors.keys()
            inner[i, j] = inner[j, i] = sum(
                one.factors[name].inner(two.factors[name]) for name in shared
            )
    norms = np.sqrt(np.diag(inner))
    return inner / np.outer(norms, norms)


def found(cosines: np.ndarray, tasks: list[str]) -> tuple[int, int]:
    """(how many have one of their own task nearest, how many could)."""
    others = cosines - 9 * np.eye(len(cosines))
    hits = [tasks[int(row.argmax())] == task for row, task in zip(others, tasks, strict=True)]
    could = [tasks.count(task) > 1 for task in tasks]
    return sum(np.logical_and(hits, could)), sum(could)


def gram(rows: list[np.ndarray]) -> np.ndarray:
    return np.array(rows) @ np.array(rows).T


def line(title: str, size: int | str, cosines: list[np.ndarray], tasks: list[str]) -> str:
    pairs = [found(each, tasks) for each in cosines]
    return f"| {title} | {size} | {np.mean([hit for hit, _ in pairs]):.1f} of {pairs[0][1]} |"


def standouts(cosines: np.ndarray, names: list[str]) -> list[str]:
    """A line for each adapter: the nearest, its cosine, and that of the second."""
    lines = ["| adapter | nearest | cosine | second |", "|---|---|---:|---:|"]
    for i, name in enumerate(names):
        order = [int(j) for j in np.argsort(-cosines[i]) if j != i]
        first, second = (f"{cosines[i, j]:.3f}" for j in order[:2])
        lines.append(f"| {name} | {names[order[0]]} | {first} | {second} |")
    return lines


def main() -> None:
    specs = [s for s in adapter_specs() if s.set in ("plain", "good-neighbour")]
    folder = Settings().demo_adapters_dir
    adapters = [load_adapter(folder / s.name) for s in specs]
    tasks = [s.task.name for s in specs]
    names = sorted({name for adapter in adapters for name in adapter.factors})
    cosines = exact(adapters)
    print("| fingerprint | numbers | own task nearest |", "|---|---:|---:|", sep="\n")
    print(line("none: the updates themselves", "all", [cosines], tasks))
    sketched = gram([sketch(adapter) for adapter in adapters])
    print(line("the gallery's sketch", 64, [sketched], tasks))
    for side in SIDES:
        drawn = [
            gram([fingerprint(adapter, names, side, seed) for adapter in adapters])
            for seed in range(DRAWS)
        ]
        print(line(f"{side} x {side} a module", len(names) * side * side, drawn, tasks))
    print()
    print(*standouts(cosines, [s.name for s in specs]), sep="\n")


if __name__ == "__main__":
    main()
