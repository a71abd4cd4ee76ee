"""What composing image adapters costs: denoiser passes, and time relative to one plain pass.

    python benchmarks/image_cost.py [--repeats 5]

One picture of the embedded demo under each method, on one thread; where CUDA is present, on it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lora_studio.adapter import Adapter
from lora_studio.composition import compose
from lora_studio.composition.gate import gate_for
from lora_studio.composition.schedule import Scheduled
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.formats import load_adapter
from lora_studio.settings import DEMO_IMAGE_BASE, Settings

STAR, NEON, FISH = "good-neighbour-star", "good-neighbour-neon", "good-neighbour-fish"
PROMPT = "a red star on the left, a blue fish on the right, sand background, neon style"
COLUMNS = ("", "denoiser passes", "time / one adapter", "time / base model")


def plans(adapters: dict[str, Adapter]) -> dict[str, Scheduled]:
    """Label -> plan; every way to denoise with three adapters, or two where it takes no more."""
    gate = gate_for(DEMO_IMAGE_BASE)

    def plan(method: str, count: int = 3, **params: Any) -> Scheduled:
        some = [adapters[name] for name in (STAR, NEON, FISH)[:count]]
        found = compose(method, some, family="sd1", gate=gate, **params)
        assert isinstance(found, Scheduled)
        return found

    halves = [{"box": [0.0, 0.0, 0.5, 1.0]}, {"box": [0.5, 0.0, 1.0, 1.0]}, {}]
    ids = [adapters[name].id for name in (STAR, NEON, FISH)]
    return {
        "base model": plain({}),
        "one adapter": plain({ids[0]: 1.0}),
        "sum of three": plain(dict.fromkeys(ids, 1.0)),
        "switch of three, every step": plan("switch", tau=1),
        "strength curve of three": plan("curve", fade=0.5),
        "K-LoRA of two": plan("k_lora", 2),
        "gated fusion of three": plan("gated_fusion"),
        "composite of three": plan("composite"),
        "cached composite of three": plan("cached_composite"),
        "regions of three": plan("regional", regions=halves),
        "regions in attention of three": plan("regional_attention", regions=halves),
        "patch weights of three": plan("patch_weights"),
        "CLoRA of three, masks alone": plan("clora", strength=0.0),
        "CLoRA of three": plan("clora"),
    }


def costs(engine: ImageEngine, repeats: int) -> Iterator[tuple[str, float, float]]:
    """(label, denoiser passes of aggregators, least seconds) of one picture."""
    folder = Settings().demo_image_adapters_dir
    adapters = {name: load_adapter(folder / name) for name in (STAR, NEON, FISH)}
    for adapter in adapters.values():
        engine.bank.add(adapter.id, adapter, keep=[a.id for a in adapters.values()])
    found = plans(adapters)
    best = dict.fromkeys(found, float("inf"))
    passes = dict.fromkeys(found, 0.0)
    clock = time.process_time if engine.device.type == "cpu" else time.perf_counter
    for _ in range(repeats + 1):  # the first round warms up
        for label, plan in found.items():
            start = clock()
            made = engine.generate([ImageRow("x", PROMPT, plan, 1)])
            best[label] = min(best[label], clock() - start)
            passes[label] = made[0].passes
    for label in found:
        yield label, passes[label], best[label]


def table(rows: Sequence[tuple[str, float, float]], steps: int) -> str:
    """Markdown: passes, and seconds relative to one adapter and to the base model alone."""
    seconds = {label: s for label, _, s in rows}
    one, base = seconds["one adapter"], seconds["base model"]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for label, passes, s in rows:
        lines.append(f"| {label} | {passes:.2f} | {s / one:.2f} | {s / base:.2f} |")
    gap = (seconds["switch of three, every step"] - one) / steps * 1000
    lines.append(f"\nSwitching at every step costs {gap:.2f} ms a step more than one adapter.")
    return "\n".join(lines)


def measure(engine: ImageEngine, repeats: int = 5) -> str:
    """The table for an engine."""
    return table(list(costs(engine, repeats)), engine.settled(Denoising()).steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(measure(ImageEngine(DEMO_IMAGE_BASE, "auto"), options.repeats))
