"""Measures the image demo: VAE, judge, base model, and every adapter on its own prompts and others.

Drawn pictures are kept in the build folder, so that only what has changed is drawn again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lora_studio.demo.image import judge_training, sampling
from lora_studio.demo.image.autoencoder import decode, encode, tensor
from lora_studio.demo.image.config import build_folder
from lora_studio.demo.image.judge import Judge, JudgeResult, Pictures, half
from lora_studio.demo.image.raw import COMPONENTS, TENSORS
from lora_studio.demo.image.scene import Pair, Scene, caption, draw_pair, draw_scene
from lora_studio.demo.image.specs import AdapterSpec, adapter_specs
from lora_studio.demo.image.words import OBJECTS, PLAIN
from lora_studio.evaluation.metrics import Rate

log = logging.getLogger(__name__)

PROMPTS = 100
BASE_PROMPTS = 100
FRESH = 800
SEED = 52_000
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


@dataclass(frozen=True)
class AdapterRow:
    """One adapter: how often its element is in the picture, by the judge.

    Args:
        name, kind, teaches: from its specification.
        own, base_own: prompts that ask for the element, with and without the adapter.
        leak: prompts that do not ask for it, with the adapter.
        kept: on those prompts, how often the object they do ask for is there.
        together: on its own prompts, object, colour, background, position and style as asked.
    """

    name: str
    kind: str
    teaches: str
    own: Rate
    base_own: Rate
    together: Rate
    leak: Rate
    kept: Rate


@dataclass(frozen=True)
class Measured:
    """Everything the report says.

    Args:
        vae_error: mean squared and mean absolute error of pixel values in [0, 1], and PSNR in dB.
        judge: per head, on fresh pictures; judge_vae: on the same after the VAE.
        base: per head, how often the base model's picture is as asked; "all": in every head;
            "pair": two objects side by side, in all that can be seen of both.
    """

    vae_error: Mapping[str, float]
    judge: Mapping[str, Rate]
    judge_vae: Mapping[str, Rate]
    base: Mapping[str, Rate]
    adapters: Sequence[AdapterRow]


def scenes_for(kind: str, word: str, count: int, seed: int = SEED) -> list[Scene]:
    """Scenes that ask for what an adapter teaches; kind "" gives scenes of the base's world."""
    rng = np.random.default_rng(seed)
    objects = (word,) if kind == "content" else OBJECTS
    styles = (word,) if kind == "style" else (PLAIN,)
    return [draw_scene(rng, objects, styles) for _ in range(count)]


def prompts_of(scenes: Sequence[Scene | Pair]) -> list[str]:
    """The captions of scenes."""
    return [caption(scene) for scene in scenes]


def as_asked(result: JudgeResult, scenes: Sequence[Scene]) -> dict[str, NDArray[np.bool_]]:
    """Per head, and for "all" of them, (n,) whether the pictures are what the scenes say; True
    where nothing is visible."""
    targets = np.array([judge_training.targets_of(scene) for scene in scenes])
    rows: dict[str, NDArray[np.bool_]] = {}
    for i, (head, words) in enumerate(judge_training.HEADS.items()):
        said = np.array([words.index(label) for label in result.labels[head]])
        rows[head] = (said == targets[:, i]) | (targets[:, i] == judge_training.UNSEEN)
    rows["all"] = np.logical_and.reduce(list(rows.values()))
    return rows


def pair_as_asked(judge: Judge, images: Pictures, pairs: Sequence[Pair]) -> NDArray[np.bool_]:
    """(n,) whether both halves show the object, colour, background and style they should."""
    whole = np.ones(len(pairs), bool)
    for side in SIDES:
        rows = as_asked(judge(half(images, side)), [getattr(pair, side) for pair in pairs])
        for head, right in rows.items():
            whole &= right if head not in ("position", "all") else True
    return whole


def rate(hits: NDArray[np.bool_]) -> Rate:
    """How many of (n,) are true."""
    return Rate(int(hits.sum()), len(hits))


def measure_adapter(base: Path, spec: AdapterSpec, judge: Judge, count: int) -> AdapterRow:
    """Draws `count` pictures with the adapter, half as many without it and of other prompts."""
    half = count // 2
    head = "object" if spec.kind == "content" else "style"
    asking, other = scenes_for(spec.kind, spec.teaches, count), scenes_for("", "", half, SEED + 1)
    raw = raw_folder(spec.name)
    without = judge(drawn(base, prompts_of(asking[:half]), SEED))
    own = judge(drawn(base, prompts_of(asking), SEED, raw))
    others = judge(drawn(base, prompts_of(other), SEED + 10_000, raw))
    words = [spec.teaches] * count
    row = AdapterRow(
        name=spec.name,
        kind=spec.kind,
        teaches=spec.teaches,
        own=rate(own.shows(head, words)),
        base_own=rate(without.shows(head, words[:half])),
        together=rate(as_asked(own, asking)["all"]),
        leak=rate(others.shows(head, words[:half])),
        kept=rate(others.shows("object", [scene.object for scene in other])),
    )
    log.info(
        "%s: own %.2f, base %.2f, leak %.2f",
        spec.name,
        row.own.rate,
        row.base_own.rate,
        row.leak.rate,
    )
    return row


def drawn(base: Path, prompts: Sequence[str], seed: int, raw: Path | None = None) -> Pictures:
    """(n, 64, 64, 3) what the base draws, with the adapter kept in `raw` if there is one."""
    files = [file for part in ("unet", "text_encoder", "vae", "scheduler", "tokenizer")
             for file in sorted((base / part).iterdir())]  # fmt: skip
    if raw:
        files += [raw / c / TENSORS for c in COMPONENTS if (raw / c / TENSORS).exists()]
    digest = hashlib.sha256(json.dumps([*prompts, seed]).encode())
    for file in files:
        digest.update(file.read_bytes())
    kept = build_folder() / "drawn" / f"{digest.hexdigest()[:24]}.npy"
    if kept.exists():
        return np.load(kept)
    pipeline = sampling.load_pipeline(base)
    if raw:
        sampling.attach(pipeline, raw)
    pictures = sampling.sample(pipeline, prompts, seed)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, pictures)
    return pictures


def raw_folder(name: str) -> Path:
    """Where the build keeps what PEFT trained for an adapter."""
    return build_folder() / "raw" / name


def measure_vae(vae: Any, judge: Judge) -> dict[str, Any]:
    """The VAE's error on fresh pictures, and the judge's accuracy on them before and after it."""
    fresh = judge_training.draw_judged(np.random.default_rng(SEED), FRESH)
    back = decode(vae, encode(vae, tensor(fresh.images)))
    gap = (back.astype(np.float64) - fresh.images) / 255
    squared = float((gap**2).mean())
    error = {"mse": squared, "mae": float(np.abs(gap).mean()), "psnr": -10 * np.log10(squared)}
    again = judge_training.Judged(back, fresh.targets)
    return {
        "vae_error": error,
        "judge": judge_training.accuracy(judge, fresh),
        "judge_vae": judge_training.accuracy(judge, again),
    }


def measure_base(base: Path, judge: Judge) -> dict[str, Rate]:
    """Per head, how many of the base model's pictures are as asked."""
    scenes = scenes_for("", "", BASE_PROMPTS)
    asked = as_asked(judge(drawn(base, prompts_of(scenes), SEED)), scenes)
    rng = np.random.default_rng(SEED + 2)
    pairs = [draw_pair(rng) for _ in range(BASE_PROMPTS)]
    asked["pair"] = pair_as_asked(judge, drawn(base, prompts_of(pairs), SEED + 2), pairs)
    return {head: rate(hits) for head, hits in asked.items()}


def measure(root: Path, counts: Mapping[str, int] | None = None) -> Measured:
    """Measures what is in `root` (base, judge) and the raw adapters; minutes on a CPU.

    `counts`: pictures for the adapters named, instead of `PROMPTS`.
    """
    base, judge = root / "base", Judge.load(root)
    first = measure_vae(sampling.load_pipeline(base).vae, judge)
    return Measured(
        vae_error=first["vae_error"],
        judge={head: Rate(*pair) for head, pair in first["judge"].items()},
        judge_vae={head: Rate(*pair) for head, pair in first["judge_vae"].items()},
        base=measure_base(base, judge),
        adapters=[
            measure_adapter(base, spec, judge, (counts or {}).get(spec.name, PROMPTS))
            for spec in adapter_specs()
            if (raw_folder(spec.name) / "unet" / TENSORS).exists()
        ],
    )
