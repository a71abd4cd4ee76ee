"""What a retriever is trained and judged on: adapters put together by task, their sample inputs,
and prompts that are none of these."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_studio.composition.method import Progress, no_progress
from lora_studio.errors import InvalidRequest
from lora_studio.formats import load
from lora_studio.retrieval.embed import Embedder
from lora_studio.retrieval.retriever import adapter_texts, centroid

CONTROL = "control"
"""Tag of adapters that have learned nothing."""
_BATCH = 64


@dataclass(frozen=True)
class TaskTexts:
    """One task.

    Args:
        name: of its first adapter's folder.
        samples: one tuple of sample inputs for each of its adapters.
        prompts: what it is judged by.
    """

    name: str
    samples: tuple[tuple[str, ...], ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Embedded:
    """The same as vectors of length 1, by task: samples (n, dim), one place (dim,) for each adapter
    as (m, dim), prompts (p, dim)."""

    samples: Mapping[str, np.ndarray]
    places: Mapping[str, np.ndarray]
    prompts: Mapping[str, np.ndarray]


def read_tasks(folders: Iterable[Path], most: int = 100, seed: int = 0) -> list[TaskTexts]:
    """The tasks of adapters in folders; those that have the same test prompts share a task.

    Args:
        most: prompts of a task, drawn by the seed; those that are sample inputs of any of its
            adapters are left out.
    """
    found: dict[tuple[str, ...], tuple[str, list[tuple[str, ...]]]] = {}
    for folder in folders:
        loaded = load(folder)
        samples, source = adapter_texts(loaded.adapter.card)
        if source != "samples" or CONTROL in loaded.adapter.card.tags:
            continue
        tests = tuple(sorted({t["prompt"] for t in loaded.tests}))
        key = tests or (f"\0{folder}",)
        found.setdefault(key, (folder.name, []))[1].append(tuple(samples))
    tasks = []
    for key, (name, samples) in found.items():
        used = {text for each in samples for text in each}
        fresh = [text for text in key if text not in used and not text.startswith("\0")]
        chosen = random.Random(seed).sample(fresh, min(most, len(fresh)))
        tasks.append(TaskTexts(name, tuple(samples), tuple(chosen)))
    return tasks


def embed_tasks(
    tasks: Iterable[TaskTexts],
    embedder: Embedder,
    progress: Progress = no_progress,
    check: Callable[[], None] = lambda: None,
) -> Embedded:
    """Embeds every text once.

    Raises:
        InvalidRequest: there is no task.
    """
    known = list(tasks)
    if not known:
        raise InvalidRequest("None of the adapters has sample inputs. Add about 20 to their cards.")
    texts = list(dict.fromkeys(text for t in known for s in (*t.samples, t.prompts) for text in s))
    rows = []
    for start in range(0, len(texts), _BATCH):
        check()
        progress(start / len(texts), f"reading text {start + 1} of {len(texts)}")
        rows.append(embedder.encode(texts[start : start + _BATCH]))
    place = {text: i for i, text in enumerate(texts)}
    vectors = np.concatenate(rows)  # (texts, dim)

    def of(some: Iterable[str]) -> np.ndarray:
        return vectors[[place[text] for text in some]]

    return Embedded(
        {t.name: np.concatenate([of(s) for s in t.samples]) for t in known},
        {t.name: np.stack([centroid(of(s)) for s in t.samples]) for t in known},
        {t.name: of(t.prompts) for t in known if t.prompts},
    )
