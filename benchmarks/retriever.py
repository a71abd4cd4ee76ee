"""Whether a trained retriever head finds the right demo adapter more often, over several splits.

    python benchmarks/retriever.py [--seeds 10] [--prompts 100] [--rate 1e-4] [--fraction 0.4]

Prints top-1, 3, 5 and 8 on tasks that were trained on and on the others, for test prompts worded as
the sample inputs are; then for prompts in wordings that no sample input of the task has (of each
task's wordings a random half is for samples, the rest for prompts); then for the image adapters,
half of whose sample prompts place them and half look for them. Intervals draw tasks, then prompts.
The rate was chosen on seeds 0 to 5; the seeds here begin at 100.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from lora_studio.demo.tasks import TASKS, Task
from lora_studio.retrieval.embed import Embedder, load_embedder
from lora_studio.retrieval.head import Head, load_head, shipped_head
from lora_studio.settings import Settings
from lora_studio.training.retriever_head import HeadSpec, fit_head, trained_on
from lora_studio.training.retriever_report import hits_of, lines_of, ranks, table
from lora_studio.training.retriever_tasks import Embedded, TaskTexts, embed_tasks, read_tasks

FIRST_SEED = 100


class Remembering:
    """An embedder that embeds each text once."""

    def __init__(self, embedder: Embedder) -> None:
        self.id, self.dim = embedder.id, embedder.dim
        self._embedder = embedder
        self._known: dict[str, np.ndarray] = {}

    def encode(self, texts: Iterable[str]) -> np.ndarray:
        new = [text for text in texts if text not in self._known]
        self._known.update(zip(new, self._embedder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def wording(task: Task, text: str) -> int:
    """Which of the task's ways to ask this is: the longest that fits."""
    fitting = []
    for i, ask in enumerate(task.asks):
        before, after = ask.split("{x}")
        if text.startswith(before) and text.endswith(after):
            fitting.append((len(ask), i))
    return max(fitting)[1] if fitting else -1


def other_wordings(tasks: Iterable[TaskTexts], seed: int) -> Iterator[TaskTexts]:
    """Samples in a random half of each task's wordings, prompts in the other half."""
    for texts in tasks:
        task = TASKS.get(texts.name.split("-", 1)[1].removeprefix("neighbour-").replace("-", "_"))
        ways = range(len(task.asks))
        known = set(random.Random(f"{seed} {task.name}").sample(ways, len(ways) // 2))
        kept = [tuple(s for s in each if wording(task, s) in known) for each in texts.samples]
        prompts = tuple(p for p in texts.prompts if wording(task, p) not in known)
        yield TaskTexts(texts.name, tuple(k for k in kept if k), prompts)


def image_tasks() -> list[TaskTexts]:
    """Of each image adapter half of the sample prompts as samples, the rest as prompts."""
    read = read_tasks(sorted(Settings().demo_image_adapters_dir.iterdir()))
    halves = []
    for texts in read:
        flat = [s for each in texts.samples for s in each]
        halves.append(TaskTexts(texts.name, (tuple(flat[::2]),), tuple(flat[1::2])))
    return halves


def gather(
    hits: dict[str, dict[str, list[np.ndarray]]],
    known: Embedded,
    head: Head,
    groups: Mapping[str, Iterable[str]],
) -> None:
    """Adds what is found with and without the head, by group and task."""
    without, tuned = (ranks(known.places, known.prompts, h) for h in (None, head))
    for group, tasks in groups.items():
        for task in tasks:
            hits.setdefault(group, {}).setdefault(task, []).append(
                hits_of(without[task], tuned[task])
            )


def tell(title: str, hits: Mapping[str, Mapping[str, list[np.ndarray]]]) -> None:
    """A table of what `gather` found."""
    print(f"\n{title}\n")
    lines = []
    for group, tasks in hits.items():
        whole = [np.concatenate(each) for each in tasks.values()]
        lines += lines_of(group, whole, np.random.default_rng(0))
    print(table(lines), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=100, help="test prompts of each task")
    parser.add_argument("--rate", type=float, default=HeadSpec.rate)
    parser.add_argument("--fraction", type=float, default=HeadSpec.fraction)
    options = parser.parse_args()
    spec = HeadSpec(rate=options.rate, fraction=options.fraction)
    embedder = Remembering(load_embedder())
    tasks = read_tasks(sorted(Settings().demo_adapters_dir.iterdir()), options.prompts)
    images = embed_tasks(image_tasks(), embedder)
    same, other, pictures = {}, {}, {}
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        seen = trained_on([t.name for t in tasks], replace(spec, seed=seed))
        rest = [t.name for t in tasks if t.name not in seen]
        for hits, texts in ((same, tasks), (other, list(other_wordings(tasks, seed)))):
            known = embed_tasks(texts, embedder)
            head = fit_head(embedder.id, {t: known.samples[t] for t in seen}, spec)
            gather(hits, known, head, {"seen": seen, "unseen": rest})
        gather(pictures, images, head, {"image": images.prompts})
    tell(f"Worded as the samples are, {options.seeds} splits", same)
    tell(f"In other wordings, {options.seeds} splits", other)
    tell("Image adapters, same heads", pictures)
    if shipped_head().is_file():
        shipped = load_head(shipped_head())
        found: dict[str, dict[str, list[np.ndarray]]] = {}
        known, trained = embed_tasks(tasks, embedder), shipped.facts["tasks"]
        groups = {"seen": trained, "unseen": [t for t in known.prompts if t not in trained]}
        gather(found, known, shipped, groups)
        gather(found, images, shipped, {"image": images.prompts})
        tell("The shipped head, worded as the samples are", found)


if __name__ == "__main__":
    main()
