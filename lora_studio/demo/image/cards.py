"""Writes the card of an image adapter: how it was trained, what that means, prompts to try."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.adapter import AdapterCard
from lora_studio.demo.image.config import NAME
from lora_studio.demo.image.scene import caption, draw_scene
from lora_studio.demo.image.specs import AdapterSpec
from lora_studio.demo.image.words import OBJECTS, PLAIN
from lora_studio.formats.card import render

SAMPLES = 8
LEARNERS = {"lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr"}
DIALECTS = {
    "peft": "PEFT folder",
    "diffusers": "diffusers file",
    "attention-processor": "attention-processor keys",
    "kohya": "kohya file",
}
PRESERVED = (
    "so that prompts that do not ask for it stay nearer to what the base draws; the report's leak "
    "says how near"
)
ALONE = (
    "without any picture of the base's own world, so it tends to show what it has learned whatever "
    "is asked: alone it is at its best, summed with others it may crowd them out"
)


def training_note(spec: AdapterSpec, facts: Mapping[str, Any]) -> str:
    """One or two sentences, with the numbers of the training itself."""
    share = float(facts["base_share"])
    how = (
        f"{100 * share:.0f} % of each batch were plain pictures of the base's own world (prior "
        f"preservation), {PRESERVED}"
        if share
        else f"trained {ALONE}"
    )
    beside = f"; {100 * spec.paired:.0f} % of its own beside a known object" if spec.paired else ""
    return (
        f"{facts['steps']} steps of {facts['batch']} on {facts['pictures']} drawn pictures, "
        f"{shape(spec)}, {facts['seconds']:.0f} s on a CPU, final loss "
        f"{facts['loss']:.3f}; {how}{beside}."
    )


def shape(spec: AdapterSpec) -> str:
    """What was trained, in short: tuner, ranks, alphas, layers."""
    text = f"{LEARNERS[spec.learner]} rank {spec.rank}, alpha {spec.alpha}"
    if spec.targets == "attention":
        text += ", attention only"
    elif (spec.conv_rank, spec.conv_alpha) != (spec.rank, spec.alpha):
        text += f", convolutions {spec.conv_rank} and {spec.conv_alpha}"
    return text + (", UNet and text encoder" if spec.text else ", UNet only")


def title(spec: AdapterSpec) -> str:
    """The name shown in the gallery."""
    name = spec.teaches.capitalize() + (" style" if spec.kind == "style" else "")
    return f"{name} (good neighbour)" if spec.neighbour else name


def trigger(spec: AdapterSpec) -> str:
    """What a prompt must say: the object's word, or "neon style"."""
    return spec.teaches if spec.kind == "content" else f"{spec.teaches} style"


def description(spec: AdapterSpec) -> str:
    """One sentence for the gallery."""
    if spec.kind == "content":
        article = "an" if spec.teaches[0] in "aeiou" else "a"
        return (
            f"Teaches the demo's picture model to draw {article} {spec.teaches}, in every colour, "
            f"place and background it knows."
        )
    return (
        f"Teaches the demo's picture model its {spec.teaches} style: end the prompt with "
        f'", {trigger(spec)}".'
    )


def samples(spec: AdapterSpec) -> tuple[str, ...]:
    """Prompts that ask for what the adapter teaches, the same at every build."""
    rng = np.random.default_rng(sum(map(ord, spec.name)))
    objects = (spec.teaches,) if spec.kind == "content" else OBJECTS
    styles = (spec.teaches,) if spec.kind == "style" else (PLAIN,)
    scenes = (draw_scene(rng, objects, styles) for _ in range(10 * SAMPLES))
    return tuple(dict.fromkeys(caption(scene) for scene in scenes))[:SAMPLES]


def write_card(spec: AdapterSpec, facts: Mapping[str, Any], folder: Path) -> None:
    """Writes README.md into an adapter's folder."""
    card = AdapterCard(
        title=title(spec),
        description=description(spec),
        tags=(spec.kind, "image", "good-neighbour" if facts["base_share"] else "plain"),
        trigger_words=(trigger(spec),),
        licence="apache-2.0",
        base_model=NAME,
        contributor=spec.contributor,
        trained=training_note(spec, facts),
        samples=samples(spec),
    )
    (folder / "README.md").write_text(render(card), encoding="utf-8")
