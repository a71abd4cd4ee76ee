"""How well compositions of image adapters show everything that was asked for, and what they cost.

    python benchmarks/image_composition.py [--images 100] [--write] [--cost-only]

Content and style adapters of the embedded demo, in pairs and in a triple (two contents and a style;
each prompt asks for one of the contents). A small classifier, trained on the same world, says what
a picture shows; all methods of a group answer the same prompts from the same noise. `--write` puts
the tables in assets/demo/image/COMPOSITIONS.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Merged
from lora_studio.composition.method import Inputs
from lora_studio.composition.schedule import Scheduled
from lora_studio.demo.image.judge import Judge
from lora_studio.demo.image.scene import Scene, caption, draw_scene
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.evaluation.image_probe import ImageProbe
from lora_studio.evaluation.metrics import Rate
from lora_studio.formats import load_adapter
from lora_studio.settings import DEMO_IMAGE_BASE, Settings, assets_dir

SEED = 81_000
BATCH = 25
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "star and neon": (("good-neighbour-star",), ("good-neighbour-neon",)),
    "star, trained plainly, and neon": (("plain-star",), ("good-neighbour-neon",)),
    "star, fish and neon": (
        ("good-neighbour-star", "good-neighbour-fish"),
        ("good-neighbour-neon",),
    ),
}


@dataclass(frozen=True)
class Score:
    """How many pictures show the object, the style, and both."""

    content: Rate
    style: Rate
    both: Rate


def variants(contents: int) -> Iterator[tuple[str, str, dict[str, Any], float]]:
    """(label, method, parameters, weight of the style) of every composition in the tables."""
    yield "merge: sum", "cat", {}, 1.0
    yield "merge: sum, style at 0.6", "cat", {}, 0.6
    yield "merge: SVD, rank 8", "svd", {"rank": 8}, 1.0
    yield "merge: LEGO, rank 16", "lego", {"rank": 16, "gauge": "balanced"}, 1.0
    tuned = {"rank": 16, "gauge": "balanced", "auto_scale": True}
    yield "merge: LEGO, rank 16, auto-scale", "lego", tuned, 1.0
    yield "merge: best on samples", "preset", {}, 1.0
    yield "switch, tau 1", "switch", {"tau": 1}, 1.0
    yield "style from 0.3 on", "curve", {"who": "others", "start": 0.3}, 1.0
    yield "style until 0.5", "curve", {"who": "others", "start": 0.0, "stop": 0.5}, 1.0
    if contents == 1:
        yield "K-LoRA s", "k_lora", {"variant": "s"}, 1.0
    yield "composite", "composite", {}, 1.0
    yield "cached composite, refresh 3", "cached_composite", {"refresh": 3}, 1.0
    yield "patch weights", "patch_weights", {}, 1.0


class Bench:
    """Makes and judges pictures with one engine on one thread."""

    def __init__(self, images: int) -> None:
        torch.set_num_threads(1)
        self.engine = ImageEngine(DEMO_IMAGE_BASE, "auto")
        self.judge = Judge.load(assets_dir() / "demo" / "image")
        self.images = images
        folder = Settings().demo_image_adapters_dir
        names = {name for parts in GROUPS.values() for part in parts for name in part}
        self.adapters = {name: load_adapter(folder / name) for name in sorted(names)}
        self._probes: dict[tuple[str, ...], ImageProbe] = {}
        for name, adapter in self.adapters.items():
            self.engine.bank.add(name, adapter)

    def plan(
        self, method: str, names: Sequence[str], weights: Sequence[float], **params: Any
    ) -> Scheduled:
        """The method's plan with everything it needs in the bank; merges become one adapter."""
        adapters: list[Adapter] = [self.adapters[name] for name in names]
        chosen = METHODS.get(method)
        probe = self.probe(names) if chosen.tunes(params) else None
        family = self.engine.family.name
        inputs = Inputs(adapters, weights, ids=list(names), family=family, probe=probe)
        found = chosen(inputs, **params)
        if isinstance(found, Merged):
            self.engine.bank.add("merged", found.adapter, keep=self.adapters)
            return plain({"merged": 1.0})
        assert isinstance(found, Scheduled)
        return found

    def probe(self, names: Sequence[str]) -> ImageProbe:
        """What tunes a merge of these adapters; made once."""
        key = tuple(names)
        if key not in self._probes:
            sources = {name: self.adapters[name] for name in names}
            samples = {name: sources[name].card.samples for name in names}
            self._probes[key] = ImageProbe(self.engine, sources, samples)
        return self._probes[key]

    def score(self, plan: Scheduled, scenes: Sequence[Scene]) -> Score:
        """Judges one picture of each scene."""
        made: list[np.ndarray] = []
        for start in range(0, len(scenes), BATCH):
            rows = [
                ImageRow(str(i), caption(scene), plan, SEED + i)
                for i, scene in enumerate(scenes[start : start + BATCH], start)
            ]
            made += [picture.pixels for picture in self.engine.generate(rows)]
        seen = self.judge(np.stack(made))
        content = seen.shows("object", [s.object for s in scenes])
        style = seen.shows("style", [s.style for s in scenes])
        n = len(scenes)
        return Score(*(Rate(int(hits.sum()), n) for hits in (content, style, content & style)))

    def group(self, contents: Sequence[str], styles: Sequence[str]) -> Iterator[tuple[str, Score]]:
        """(label, score) of the controls and of every method."""
        words = [name.rpartition("-")[2] for name in contents]
        style = styles[0].rpartition("-")[2]
        rng = np.random.default_rng(SEED)
        scenes = [draw_scene(rng, (words[i % len(words)],), (style,)) for i in range(self.images)]
        yield "base model", self.score(plain({}), scenes)
        for name in (*contents, *styles):
            yield f"{name} alone", self.score(plain({name: 1.0}), scenes)
        names = [*contents, *styles]
        for label, method, params, weight in variants(len(contents)):
            weights = [1.0] * len(contents) + [weight] * len(styles)
            yield label, self.score(self.plan(method, names, weights, **params), scenes)

    def costs(self, repeats: int = 5) -> Iterator[tuple[str, float, float]]:
        """(label, denoiser passes, least seconds) of one picture under two and three adapters."""
        pair = ["good-neighbour-star", "good-neighbour-neon"]
        triple = [*pair, "good-neighbour-fish"]
        plans: dict[str, Scheduled] = {
            "base model": plain({}),
            "one adapter": plain({pair[0]: 1.0}),
            "sum of three": plain(dict.fromkeys(triple, 1.0)),
            "switch of three, tau 1": self.plan("switch", triple, [1.0] * 3, tau=1),
            "strength curve of three": self.plan("curve", triple, [1.0] * 3, fade=0.5),
            "K-LoRA of two": self.plan("k_lora", pair, [1.0] * 2),
            "composite of three": self.plan("composite", triple, [1.0] * 3),
            "cached composite of three": self.plan("cached_composite", triple, [1.0] * 3),
            "patch weights of three": self.plan("patch_weights", triple, [1.0] * 3),
        }
        best = dict.fromkeys(plans, float("inf"))
        passes = dict.fromkeys(plans, 0.0)
        for _ in range(repeats):
            for label, plan in plans.items():
                row = ImageRow("x", "a red star, sand background, neon style", plan, 1)
                start = time.process_time()
                made = self.engine.generate([row], Denoising())
                best[label] = min(best[label], time.process_time() - start)
                passes[label] = made[0].passes
        for label in plans:
            yield label, passes[label], best[label]


def cell(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.rate:.2f} ({low:.2f}–{high:.2f})"


def score_table(rows: Sequence[tuple[str, Score]]) -> str:
    """Markdown; the best composition is bold."""
    made = [score.both.rate for label, score in rows if not _control(label)]
    best = max(made, default=0.0)
    lines = ["| | object | style | both |", "|---|---|---|---|"]
    for label, score in rows:
        both = cell(score.both)
        if not _control(label) and score.both.rate == best > 0:
            both = f"**{both}**"
        lines.append(f"| {label} | {cell(score.content)} | {cell(score.style)} | {both} |")
    return "\n".join(lines)


def _control(label: str) -> bool:
    return label == "base model" or label.endswith(" alone")


def cost_table(rows: Sequence[tuple[str, float, float]], steps: int) -> str:
    """Markdown: passes, and seconds relative to one adapter and to the base model alone."""
    seconds = {label: s for label, _, s in rows}
    one, base = seconds["one adapter"], seconds["base model"]
    lines = [
        "| | denoiser passes | time / one adapter | time / base model |",
        "|---|---|---|---|",
    ]
    for label, passes, s in rows:
        lines.append(f"| {label} | {passes:.2f} | {s / one:.2f} | {s / base:.2f} |")
    gap = (seconds["switch of three, tau 1"] - one) / steps * 1000
    lines.append(f"\nSwitching at every step costs {gap:.2f} ms a step more than one adapter.")
    return "\n".join(lines)


DOCUMENT = """# Compositions of the image demo's adapters, measured

Written by `python benchmarks/image_composition.py --write`. {images} pictures for each line, of
{steps} steps, with 95 % Wilson intervals; all lines of a table share prompts and noise, so
differences between lines are surer than their intervals say. *object* and *style*: the classifier
sees the one that the prompt asks for; *both*: in the same picture. In bold the best composition of
a table.

{groups}

## Cost of one picture

Least processor time of several runs on one thread ({device}), text encoding and VAE included.

{costs}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=100, help="pictures of each line")
    parser.add_argument("--groups", default="", help="only groups whose title contains this")
    parser.add_argument("--write", action="store_true", help="write COMPOSITIONS.md")
    parser.add_argument("--cost-only", action="store_true", help="measure cost, not quality")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bench = Bench(options.images)
    steps = bench.engine.settled(Denoising()).steps
    costs = cost_table(list(bench.costs()), steps)
    print(costs, flush=True)
    if options.cost_only:
        return
    tables = []
    for title, (contents, styles) in GROUPS.items():
        if options.groups not in title:
            continue
        start = time.perf_counter()
        tables.append(f"## {title}\n\n{score_table(list(bench.group(contents, styles)))}")
        logging.info("%s in %.0f s", title, time.perf_counter() - start)
        print(tables[-1], flush=True)
    text = DOCUMENT.format(
        images=options.images,
        steps=steps,
        groups="\n\n".join(tables),
        costs=costs,
        device=bench.engine.device,
    )
    if options.write:
        path = assets_dir() / "demo" / "image" / "COMPOSITIONS.md"
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
