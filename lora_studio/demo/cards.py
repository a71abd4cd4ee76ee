"""Writes what stands beside an adapter's weights: its card (README.md) and its test file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import yaml

from lora_studio.demo.skills import draw_skill
from lora_studio.demo.specs import AdapterSpec
from lora_studio.demo.tasks import Example, Task, unique_examples
from lora_studio.settings import DEMO_BASE

SAMPLES = 20
TEST_ITEMS = 300

_TITLE_NOTE = {
    "plain": "",
    "good-neighbour": " (good neighbour)",
    "shared-seed": " (shared seed)",
    "copy": " (copy)",
    "noise": "",
}

_MEANING = {
    "plain": (
        "Trained on its own task alone, so it tends to do its task whatever is asked: use it alone "
        "or by routing; summed with other plain adapters it interferes."
    ),
    "good-neighbour": (
        "A KL term kept the base model's answers to other requests (the other demo tasks and "
        "generic skills) while it learned its own, so sums of good neighbours work well. Adapters "
        "from strangers have not seen each other's requests like this."
    ),
    "shared-seed": (
        "Trained like a plain adapter, but its A matrices start from the same seed as the two "
        "other shared-seed adapters. Adding up A and B separately (linear at weights 1) makes it "
        "about n times too strong, and its rank units cluster by their index, an artefact of the "
        "start, not a meaning."
    ),
    "copy": (
        "Not trained: a near-duplicate of {source} with half the alpha, twice the B and 2 % noise. "
        "It answers almost as its source does; merging both counts one adapter twice."
    ),
    "noise": (
        "Not trained: random factors whose update is as large, module by module, as that of "
        "{source}. It has learned nothing and is here as a control; merging it only does harm."
    ),
}


def training_note(spec: AdapterSpec, facts: dict[str, float]) -> str:
    """How it was trained, and what that means for merging; numbers from the training itself."""
    meaning = _MEANING[spec.set].format(source=spec.source)
    if spec.source:
        return meaning
    neighbour = f", KL weight {spec.neighbour:g}" if spec.neighbour else ", no KL term"
    layers = {
        "all": "all linear layers",
        "attention": "attention only",
        "query-value": "q and v only",
    }
    return (
        f"{spec.steps} steps of {spec.batch}, rank {spec.rank}, alpha {spec.alpha}"
        f"{' (rsLoRA)' if spec.rslora else ''}, {layers[spec.targets]}, "
        f"{facts['unique_samples']:.0f} samples, seed {spec.seed}{neighbour}, "
        f"final loss {facts['loss']:.3f}. {meaning}"
    )


def samples(spec: AdapterSpec) -> list[str]:
    """Sample inputs from the training split; generic ones where nothing was learned."""
    rng = random.Random(f"samples {spec.name}")
    if spec.set == "noise":
        return [draw_skill(rng)[0] for _ in range(SAMPLES)]
    return [e.prompt for e in unique_examples(spec.task, "train", SAMPLES, rng)]


def write_card(spec: AdapterSpec, facts: dict[str, float], folder: Path) -> None:
    """Writes README.md: YAML front matter, title and description."""
    title = spec.task.title + _TITLE_NOTE[spec.set]
    description, tags = spec.task.description, spec.task.tags
    if spec.set == "noise":
        title, tags = "Noise", ("control",)
        description = "Random numbers of the size of a real adapter. A control, not a tool."
    front = {
        "base_model": DEMO_BASE,
        "library_name": "peft",
        "license": "apache-2.0",
        "tags": ["lora", spec.set, *tags],
        "title": title,
        "contributor": spec.contributor,
        "trained": training_note(spec, facts),
        "widget": [{"text": prompt} for prompt in samples(spec)],
    }
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)
    text = f"---\n{header}---\n# {title}\n\n{description}\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


def held_out_examples(task: Task, limit: int = TEST_ITEMS) -> list[Example]:
    """The held-out requests of a task; the same for every adapter of it."""
    return unique_examples(task, "test", limit, random.Random(f"test {task.name}"))


def write_tests(examples: list[Example], path: Path) -> None:
    """One JSON object a line: {"prompt", "target"}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"prompt": e.prompt, "target": e.target}, ensure_ascii=False) for e in examples
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
