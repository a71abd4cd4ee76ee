"""Whether a trained retriever head finds the right demo adapter more often, over several splits.

    python benchmarks/retriever.py [--seeds 10] [--prompts 100] [--rate 1e-4] [--fraction 0.4]

Prints top-1, 3, 5 and 8 on tasks that were trained on and on the others, for test prompts worded as
the sample inputs are; then for prompts in wordings that no sample input of the task has (of each
task's wordings a random half is for samples, the rest for prompts); then for the image adapters,
half of whose sample prompts place them and half look for them. Intervals draw tasks, then prompts.
Before all that, how many prompts find an adapter near enough, by how near that has to be.
The rate was chosen on seeds 0 to 5; the seeds here begin at 100.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from _remembered import Remembered

from lora_studio.composition.choice import BLANK_TEXT
from lora_studio.demo.tasks import TASKS, Task
from lora_studio.retrieval.embed import Embedder, load_embedder
from lora_studio.retrieval.head import Head, load_head, shipped_head
from lora_studio.settings import Settings
from lora_studio.training.retriever_head import HeadSpec, fit_head, trained_on
from lora_studio.training.retriever_report import hits_of, lines_of, ranks, table
from lora_studio.training.retriever_tasks import Embedded, TaskTexts, embed_tasks, read_tasks

FIRST_SEED = 100
ANYTHING = (
    "What is the boiling point of water?", "Write a poem about autumn leaves.", "Tell me a joke.",
    "Summarize the plot of Hamlet.", "How do I install Python on Windows?", "What's 37 times 12?",
    "Explain quantum entanglement to a child.", "Give me a recipe for lasagne.", "hello",
    "Who won the world cup in 1998?", "Write a SQL query that joins two tables.",
    "Is it going to rain tomorrow?", "Fix the bug in this function: def f(x) return x",
    "Translate to Spanish: good morning", "Write an email to my boss asking for leave.",
    "List five healthy breakfast ideas.", "asdf qwer zxcv", "What does DNA stand for?",
    "Describe the French revolution in two sentences.", "Name three famous paintings.",
)  # fmt: skip
"""What people ask for that none of the demo's adapters is for."""


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


def fits(tasks: Iterable[TaskTexts], embedder: Embedder) -> str:
    """How many prompts an adapter is near enough to, by how near that has to be: as a cosine, and
    as what it exceeds the cosine to a blank text by. Prompts of the tasks; the same with the
    adapters of their own task taken away; requests none is for; prompts of the image adapters."""
    known = embed_tasks(tasks, embedder)
    names, blank = sorted(known.places), embedder.encode([BLANK_TEXT])[0]
    groups = {"of a task": [], "its adapters away": [], "of anything else": [], "for pictures": []}

    def near(rows: np.ndarray, away: str = "") -> np.ndarray:
        """(n, 2) cosine of the nearest, and what it exceeds that to a blank text by."""
        places = np.concatenate([known.places[name] for name in names if name != away])
        best = (rows @ places.T).max(1)
        return np.stack([best, best - rows @ blank], 1)

    for task, rows in known.prompts.items():
        groups["of a task"].append(near(rows))
        groups["its adapters away"].append(near(rows, task))
    groups["of anything else"].append(near(embedder.encode(ANYTHING)))
    pictures = embed_tasks(image_tasks(), embedder).prompts
    groups["for pictures"] += [near(rows) for rows in pictures.values()]
    lines = [f"| at least | {' | '.join(groups)} |", "|---|" + "---|" * len(groups)]
    for title, which, levels in (
        ("cosine", 0, (0.65, 0.7, 0.75, 0.8)),
        ("margin", 1, (0.01, 0.03, 0.05, 0.08)),
    ):
        for least in levels:
            shares = [np.mean([(n[:, which] >= least).mean() for n in g]) for g in groups.values()]
            told = " | ".join(f"{100 * share:.1f}" for share in shares)
            lines.append(f"| {title} {least:.2f} | {told} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=100, help="test prompts of each task")
    parser.add_argument("--rate", type=float, default=HeadSpec.rate)
    parser.add_argument("--fraction", type=float, default=HeadSpec.fraction)
    options = parser.parse_args()
    spec = HeadSpec(rate=options.rate, fraction=options.fraction)
    embedder = Remembered(load_embedder())
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
    print("\nPercent of prompts that an adapter is near enough to, bare embedder\n")
    print(fits(tasks, embedder), flush=True)
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
