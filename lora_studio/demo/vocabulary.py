"""Which typed words the demo has ever seen, and prompts to try instead; needs no torch."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import yaml

from lora_studio.settings import assets_dir

WORDS_FILE = "words.txt"
_WORD = re.compile(r"[^\W\d_]+")


def training_words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters, digits and marks left out."""
    return [word.lower() for word in _WORD.findall(text)]


def demo_folder() -> Path:
    """The folder of the embedded text demo."""
    return assets_dir() / "demo" / "text"


@cache
def known_words(folder: Path | None = None) -> frozenset[str]:
    """Every word of the demo's training text, in lower case."""
    path = (folder or demo_folder() / "base") / WORDS_FILE
    return frozenset(path.read_text(encoding="utf-8").split())


def unknown_words(text: str) -> list[str]:
    """Words of a typed prompt that the demo never saw in training, in order, each once."""
    known = known_words()
    found = (word for word in _WORD.findall(text) if word.lower() not in known)
    return list(dict.fromkeys(found))


def card_samples(readme: Path) -> list[str]:
    """The sample inputs on an adapter's card."""
    parts = readme.read_text(encoding="utf-8").split("---\n", 2)
    return [entry["text"] for entry in yaml.safe_load(parts[1])["widget"]]


def example_prompts(count: int = 5, seed: int = 0) -> list[str]:
    """Prompts that the demo's adapters answer well, each from another adapter's card."""
    rng = random.Random(seed)
    cards = sorted((demo_folder() / "adapters").glob("plain-*/README.md"))
    chosen = rng.sample(cards, min(count, len(cards)))
    return [rng.choice(card_samples(card)) for card in chosen]
