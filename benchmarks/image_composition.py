"""How well compositions of image adapters show everything that was asked for.

    python benchmarks/image_composition.py [--images 100] [--groups TEXT] [--write]

Adapters of the embedded demo: an object and a style, two objects side by side, and three of which
each prompt asks for two, so that the third must keep out of the way. A small
classifier, trained on the same world, says what a picture shows; all methods of a group answer the
same prompts from the same noise. `--write` puts the tables, and that of image_cost.py, in
assets/demo/image/COMPOSITIONS.md, and the figures beside it, from where the page has them; lines
that were measured before are kept in .build and not drawn
again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import _image_tables
import image_cost
import numpy as np
import torch

from lora_studio.composition import METHODS, Merged, compose
from lora_studio.composition.gate import gate_for
from lora_studio.composition.schedule import Scheduled
from lora_studio.demo.image.config import build_folder
from lora_studio.demo.image.judge import Judge, half
from lora_studio.demo.image.measure import SIDES
from lora_studio.demo.image.scene import Pair, Scene, caption, draw_pair, draw_scene, thing
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.evaluation import leaderboard as boards
from lora_studio.evaluation.image_probe import ImageProbe
from lora_studio.evaluation.leaderboard import Leaderboard
from lora_studio.evaluation.metrics import Rate
from lora_studio.formats import load_adapter
from lora_studio.settings import DEMO_IMAGE_BASE, Settings, assets_dir

SEED = 81_000
BATCH = 25
COMMAND = "python benchmarks/image_composition.py --write"
ABOUT = {
    True: "Each prompt asks for an object and a style.",
    False: "Each prompt asks for two objects side by side, each in its colour.",
}
Plans = Callable[[Scene | Pair], Scheduled]


@dataclass(frozen=True)
class Group:
    """Adapters that are composed.

    Args:
        contents, styles: names. Without a style, two contents stand side by side; with one, each
            picture shows one of the contents.
    """

    title: str
    contents: tuple[str, ...]
    styles: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.contents, *self.styles)

    @property
    def columns(self) -> tuple[str, str, str]:
        return ("object", "style", "both") if self.styles else ("left", "right", "both")

    def scenes(self, count: int) -> list[Scene | Pair]:
        """What is asked for."""
        rng = np.random.default_rng(SEED)
        words = [word(name) for name in self.contents]
        if not self.styles:
            return [draw_pair(rng, words[:1], words[1:]) for _ in range(count)]
        return [draw_scene(rng, words, [word(name) for name in self.styles]) for _ in range(count)]


GROUPS = (
    Group("star and neon", ("good-neighbour-star",), ("good-neighbour-neon",)),
    Group("star beside fish", ("good-neighbour-star", "good-neighbour-fish")),
    Group(
        "star or fish, and neon",
        ("good-neighbour-star", "good-neighbour-fish"),
        ("good-neighbour-neon",),
    ),
)


def word(name: str) -> str:
    """What an adapter of the demo teaches."""
    return name.rpartition("-")[2]


def variants(group: Group) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(label, method, parameters) of every composition in the tables. K-LoRA is for two adapters,
    and CLoRA for prompts that name every one."""
    lego = {"rank": 16, "gauge": "balanced"}
    pair = len(group.names) == 2
    yield "merge: sum", "cat", {}
    yield "merge: SVD, rank 8", "svd", {"rank": 8}
    yield "merge: LEGO, rank 8", "lego", {**lego, "rank": 8}
    yield "merge: LEGO, rank 16", "lego", lego
    yield "merge: LEGO, rank 16, auto-scale", "lego", {**lego, "auto_scale": True}
    yield "merge: RegMean, rank 8", "regmean", {"rank": 8}
    yield "merge: refit, rank 8", "refit", {"rank": 8}
    yield "merge: refit, rank 16", "refit", {"rank": 16}
    yield "merge: best on samples", "preset", {}
    yield "switch, tau 1", "switch", {"tau": 1}
    if pair and group.styles:
        yield "style from 0.3 on", "curve", {"who": "others", "start": 0.3}
    if pair:
        yield "K-LoRA s", "k_lora", {"variant": "s"}
    yield "gated fusion", "gated_fusion", {}
    yield "composite", "composite", {}
    yield "cached composite, refresh 3", "cached_composite", {"refresh": 3}
    yield "patch weights", "patch_weights", {}
    if pair:
        yield "CLoRA, masks alone", "clora", {"strength": 0.0}
        yield "CLoRA", "clora", {}
    if not group.styles:
        yield "regions", "regional", {}
        yield "regions, words of their own", "regional", {"words": True}
        yield "regions in attention", "regional_attention", {"isolate": False}
        yield "regions in attention, isolated", "regional_attention", {}
        yield "the same, words of their own", "regional_attention", {"words": True}


class Bench:
    """Makes and judges pictures with one engine on one thread."""

    def __init__(self, images: int) -> None:
        torch.set_num_threads(1)
        self.engine = ImageEngine(DEMO_IMAGE_BASE, "auto")
        self.judge = Judge.load(assets_dir() / "demo" / "image")
        self.images = images
        self.gate = gate_for(DEMO_IMAGE_BASE)
        folder = Settings().demo_image_adapters_dir
        names = sorted({name for group in GROUPS for name in group.names})
        self.adapters = {name: load_adapter(folder / name) for name in names}
        self._probes: dict[tuple[str, ...], ImageProbe] = {}
        for adapter in self.adapters.values():
            self.engine.bank.add(adapter.id, adapter)

    def plans(self, group: Group, method: str, params: dict[str, Any]) -> Plans:
        """Scene -> the method's plan, with everything it needs in the bank."""
        params = dict(params)
        words = params.pop("words", False)
        adapters = [self.adapters[name] for name in group.names]
        chosen = METHODS.get(method)
        probe = self.probe(group.names) if chosen.tunes(params) else None

        def composed(regions: Sequence[dict[str, Any]] = ()) -> Scheduled:
            found = compose(
                method,
                adapters,
                probe=probe,
                family=self.engine.family.name,
                gate=self.gate,
                regions=regions,
                **params,
            )
            if isinstance(found, Merged):
                self.engine.bank.add("merged", found.adapter, keep=[a.id for a in adapters])
                return plain({"merged": 1.0})
            assert isinstance(found, Scheduled)
            return found

        if not chosen.uses_regions:
            once = composed()
            return lambda scene: once
        return lambda scene: composed(halves_of(scene, words))

    def probe(self, names: tuple[str, ...]) -> ImageProbe:
        """What tunes a merge of these adapters; made once."""
        if names not in self._probes:
            sources = {name: self.adapters[name] for name in names}
            samples = {name: sources[name].card.samples for name in names}
            self._probes[names] = ImageProbe(self.engine, sources, samples)
        return self._probes[names]

    def score(self, plans: Plans, scenes: Sequence[Scene | Pair]) -> list[list[bool]]:
        """(3, n): first and second thing asked for, and both."""
        made: list[np.ndarray] = []
        for start in range(0, len(scenes), BATCH):
            rows = [
                ImageRow(str(i), caption(scene), plans(scene), SEED + i)
                for i, scene in enumerate(scenes[start : start + BATCH], start)
            ]
            made += [picture.pixels for picture in self.engine.generate(rows)]
        first, second = self.seen(np.stack(made), scenes)
        return [first.tolist(), second.tolist(), (first & second).tolist()]

    def seen(self, made: np.ndarray, scenes: Sequence[Scene | Pair]) -> tuple[Any, Any]:
        """Per picture, whether object and style are there; of a pair, left and right object, each
        in its colour."""
        if not isinstance(scenes[0], Pair):
            found, singles = self.judge(made), [s for s in scenes if isinstance(s, Scene)]
            objects = found.shows("object", [s.object for s in singles])
            return objects, found.shows("style", [s.style for s in singles])
        sides = []
        for side in SIDES:
            found, mine = self.judge(half(made, side)), [getattr(scene, side) for scene in scenes]
            objects = found.shows("object", [s.object for s in mine])
            sides.append(objects & found.shows("colour", [s.colour for s in mine]))
        return sides[0], sides[1]

    def lines(self, group: Group, known: Sequence[str] = ()) -> Iterator[tuple[str, list[Rate]]]:
        """(label, rates) of the controls and of every method but those `known`."""
        scenes = group.scenes(self.images)
        for label, plan in self.alone(group).items():
            if label not in known:
                yield label, rates(self.score(lambda scene, plan=plan: plan, scenes))
        for label, method, params in variants(group):
            if label in known:
                continue
            started = time.perf_counter()
            yield label, rates(self.score(self.plans(group, method, params), scenes))
            logging.info("%s: %s, %.0f s", group.title, label, time.perf_counter() - started)

    def alone(self, group: Group) -> dict[str, Scheduled]:
        """The controls by label: the base model, and each adapter by itself."""
        found: dict[str, Scheduled] = {"base model": plain({})}
        for name in group.names:
            found[f"{name} alone"] = plain({self.adapters[name].id: 1.0})
        return found

    def labels(self, group: Group) -> list[str]:
        """Of all lines, in the order of the table."""
        return [*self.alone(group), *(label for label, _, _ in variants(group))]

    def table(self, group: Group, file: Path) -> list[tuple[str, list[Rate]]]:
        """All lines of a group; those in `file` are not drawn again, new ones go there at once."""
        read = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        rows = [(label, [Rate(*rate) for rate in found]) for label, found in read]
        order = self.labels(group)
        for line in self.lines(group, [label for label, _ in rows]):
            rows.append(line)
            rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else -1)
            plain_rows = [(label, [astuple(rate) for rate in found]) for label, found in rows]
            file.write_text(json.dumps(plain_rows), encoding="utf-8")
        return rows


def leaderboard(
    bench: Bench, tables: Mapping[str, Sequence[tuple[str, list[Rate]]]]
) -> Leaderboard:
    """The same figures as the page has them; group title -> its lines."""
    groups, lines, cells = [], {}, {}
    for group in (group for group in GROUPS if group.title in tables):
        made = {label: (method, params) for label, method, params in variants(group)}
        members = tuple((bench.adapters[n].id, bench.adapters[n].card.title) for n in group.names)
        title = group.title[0].upper() + group.title[1:]
        rank = max(bench.adapters[name].max_rank for name in group.names)
        groups.append(
            boards.Group(group.title, title, members, rank, "", ABOUT[bool(group.styles)])
        )
        cells[group.title] = {}
        for label, found in tables[group.title]:
            method, params = made.get(label, ("", {}))
            asked = {name: value for name, value in params.items() if name != "words"}
            kind = METHODS.get(method).kind if method else "control"
            lines.setdefault(label, boards.Line(label, shown(label), kind, "", method, asked))
            parts = {name: rate.rate for name, rate in zip(group.columns, found[:2], strict=False)}
            cells[group.title][label] = {**found[2].to_dict(), "parts": parts}
    return Leaderboard(
        modality="image",
        base=DEMO_IMAGE_BASE,
        command=COMMAND,
        measure="pictures that show everything that was asked for",
        prompts=bench.images,
        groups=tuple(groups),
        lines=tuple(lines.values()),
        cells=cells,
    )


def shown(label: str) -> str:
    """A line's name where it stands alone."""
    name = label.removeprefix("merge: ").replace("the same, words", "regions in attention, words")
    who, alone, _ = name.partition(" alone")
    if alone and who.startswith("good-neighbour-"):
        name = f"{word(who)} alone"
    return name if name.isupper() else name[0].upper() + name[1:]


def halves_of(scene: Scene | Pair, words: bool) -> list[dict[str, Any]]:
    """A region for each object of a pair, with its own prompt if wanted."""
    assert isinstance(scene, Pair)
    boxes = ([0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0])
    prompts = [f"{thing(s)}, {s.background} background" for s in (scene.left, scene.right)]
    return [
        {"box": box, "prompt": prompt if words else ""}
        for box, prompt in zip(boxes, prompts, strict=True)
    ]


def rates(hits: Sequence[Sequence[bool]]) -> list[Rate]:
    return [Rate(sum(row), len(row)) for row in hits]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=100, help="pictures of each line")
    parser.add_argument("--groups", default="", help="only groups whose title contains this")
    parser.add_argument("--write", action="store_true", help="write COMPOSITIONS.md")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bench = Bench(options.images)
    kept = build_folder() / "compositions"
    kept.mkdir(parents=True, exist_ok=True)
    tables: list[str] = []
    measured = {}
    for group in GROUPS:
        if options.groups not in group.title:
            continue
        file = kept / f"{group.title.replace(' ', '-')}-{options.images}.json"
        if not options.write:
            file.unlink(missing_ok=True)
        measured[group.title] = bench.table(group, file)
        tables.append(_image_tables.scores(group.title, group.columns, measured[group.title]))
        print(tables[-1], flush=True)
    if not options.write:
        return
    costs = image_cost.measure(bench.engine, 3)
    print(costs, flush=True)
    text = _image_tables.DOCUMENT.format(
        images=options.images,
        steps=bench.engine.settled(Denoising()).steps,
        groups="\n\n".join(tables),
        costs=costs,
        device=bench.engine.device,
    )
    path = assets_dir() / "demo" / "image" / "COMPOSITIONS.md"
    path.write_text(text, encoding="utf-8")
    leaderboard(bench, measured).write()


if __name__ == "__main__":
    main()
