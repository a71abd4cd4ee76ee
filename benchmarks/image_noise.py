"""How far merges of image adapters predict the noise that each source alone predicts.

    python benchmarks/image_noise.py [--prompts 8] [--groups TEXT]

On prompts that are no sample of a card, and at steps at which nothing is fitted: of each picture
that a source draws, |eps_merge - eps_source|^2 / |eps_base - eps_source|^2, so that 0 is the source
and 1 the base model. Means over pictures, with 95 % intervals by resampling them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from image_composition import GROUPS, Bench, Group, variants, word

from lora_studio.composition import Merged, compose
from lora_studio.demo.image.scene import caption, draw_scene
from lora_studio.demo.image.words import OBJECTS, PLAIN
from lora_studio.evaluation.image_probe import KEPT, ImageProbe
from lora_studio.formats import load_adapter
from lora_studio.settings import Settings

SEED = 83_000
STEPS = [step for step in range(10) if step not in KEPT]
PLAIN_PAIR = Group("plain star and neon", ("plain-star",), ("plain-neon",))


def unseen(bench: Bench, group: Group, name: str, count: int) -> list[str]:
    """Prompts for one adapter that its card does not name."""
    style, rng = name in group.styles, np.random.default_rng(SEED)
    objects, styles = (OBJECTS, (word(name),)) if style else ((word(name),), (PLAIN,))
    known, found = set(bench.adapters[name].card.samples), list[str]()
    while len(found) < count:
        prompt = caption(draw_scene(rng, objects, styles))
        if prompt not in known:
            known.add(prompt)
            found.append(prompt)
    return found


def merges(group: Group) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of the variants of the other benchmark the sum, and the merges of the rank of one source."""
    for label, method, params in variants(group):
        if label == "merge: sum" or label.endswith(", rank 8"):
            yield label.removeprefix("merge: "), method, params


def interval(values: np.ndarray) -> str:
    """Mean and its bootstrap interval."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.3f} ({low:.3f}–{high:.3f})"


def table(bench: Bench, group: Group, prompts: int) -> str:
    """Markdown: a line for each merge, a column for each source."""
    sources = {name: bench.adapters[name] for name in group.names}
    asked = {name: unseen(bench, group, name, prompts) for name in sources}
    judge = ImageProbe(bench.engine, sources, asked, steps=STEPS)
    tuning = bench.probe(group.names)
    lines = [f"| {group.title} | {' | '.join(sources)} |", "|---" * (len(sources) + 1) + "|"]
    for label, method, params in merges(group):
        plan = compose(method, list(sources.values()), probe=tuning, **params)
        assert isinstance(plan, Merged)
        found = [interval(np.array(missed)) for missed in judge.missed(plan.adapter)]
        lines.append(f"| {label} | {' | '.join(found)} |")
        logging.info("%s", lines[-1])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=8, help="pictures of each source, at most 8")
    parser.add_argument("--groups", default="", help="only groups whose title contains this")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bench, folder = Bench(0), Settings().demo_image_adapters_dir
    bench.adapters |= {name: load_adapter(folder / name) for name in PLAIN_PAIR.names}
    for group in (*GROUPS, PLAIN_PAIR):
        if options.groups in group.title:
            print(table(bench, group, options.prompts), flush=True)


if __name__ == "__main__":
    main()
