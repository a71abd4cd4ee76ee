"""What a retriever is worth: how often the right task is among the first k, on tasks that its head
was trained on and on others, against the bare embedder, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from lora_studio.retrieval.head import Head
from lora_studio.retrieval.retriever import unit_rows

TOP = (1, 3, 5, 8)
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """Share of prompts whose task is among the first k tasks.

    Args:
        gain: tuned minus untuned, of the same prompts.
    """

    tasks: str
    k: int
    prompts: int
    untuned: Interval
    tuned: Interval
    gain: Interval

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def ranks(
    places: Mapping[str, np.ndarray], prompts: Mapping[str, np.ndarray], head: Head | None
) -> dict[str, np.ndarray]:
    """For each prompt, how many other tasks are nearer than its own; 0 if it is found first.

    Args:
        places: task -> (m, dim) vectors of its adapters; a task is as near as its nearest.
        prompts: task -> (n, dim) embedded prompts of it.
    """
    names = sorted(places)
    moved = {name: head(rows) if head else unit_rows(rows) for name, rows in places.items()}
    found = {}
    for task, rows in prompts.items():
        queries = head(rows) if head else unit_rows(rows)  # (n, dim)
        near = np.stack([(queries @ moved[name].T).max(1) for name in names], 1)  # (n, tasks)
        found[task] = (near > near[:, [names.index(task)]]).sum(1)
    return found


def compare(
    places: Mapping[str, np.ndarray],
    prompts: Mapping[str, np.ndarray],
    head: Head,
    seen: Iterable[str],
    seed: int = 0,
) -> list[Line]:
    """Top-1, 3, 5 and 8 of the bare embedder and of the head.

    Every task counts the same, however many prompts it has. The bootstrap draws tasks, and of each
    its prompts: a gain on few tasks is not made certain by many prompts of them.

    Args:
        seen: tasks the head was trained on.
    """
    without, with_head = ranks(places, prompts, None), ranks(places, prompts, head)
    known = set(seen)
    groups = {
        "seen": [task for task in sorted(prompts) if task in known],
        "unseen": [task for task in sorted(prompts) if task not in known],
    }
    lines = []
    for group, tasks in groups.items():
        if tasks:
            hits = [hits_of(without[task], with_head[task]) for task in tasks]
            lines += lines_of(group, hits, np.random.default_rng(seed))
    return lines


def hits_of(without: np.ndarray, with_head: np.ndarray) -> np.ndarray:
    """(n, 2, len(TOP)) of 0 and 1, from two (n,) arrays of ranks."""
    both = np.stack([without, with_head], 1)  # (n, 2)
    return (both[:, :, None] < np.array(TOP)).astype(np.float64)


def lines_of(group: str, hits: list[np.ndarray], rng: np.random.Generator) -> list[Line]:
    """A line for each k, of what `hits_of` gave for each task."""
    means = np.mean([h.mean(0) for h in hits], 0)  # (2, k)
    drawn = bootstrap(hits, rng)  # (DRAWS, 2, k)
    prompts = sum(map(len, hits))
    lines = []
    for i, k in enumerate(TOP):
        gains = drawn[:, 1, i] - drawn[:, 0, i]
        lines.append(
            Line(
                group,
                k,
                prompts,
                _interval(means[0, i], drawn[:, 0, i]),
                _interval(means[1, i], drawn[:, 1, i]),
                _interval(means[1, i] - means[0, i], gains),
            )
        )
    return lines


def bootstrap(hits: list[np.ndarray], rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """(draws, ...) means over drawn tasks of the means over drawn prompts, of (n, ...) arrays, one
    for each task."""
    resampled = []
    for each in hits:
        count = len(each)
        weights = rng.multinomial(count, np.full(count, 1 / count), draws) / count  # (draws, n)
        resampled.append(np.tensordot(weights, each, 1))
    tasks = rng.integers(len(hits), size=(draws, len(hits)))
    stacked = np.stack(resampled)  # (tasks, draws, ...)
    return stacked[tasks, np.arange(draws)[:, None]].mean(1)


def _interval(mean: float, drawn: np.ndarray) -> Interval:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(mean), float(low), float(high))


def table(lines: Iterable[Line]) -> str:
    """The lines as a Markdown table, in percent."""
    rows = ["| tasks | top | untuned | tuned | gain |", "|---|---|---|---|---|"]
    for line in lines:
        told = [percent(line.untuned), percent(line.tuned), percent(line.gain, "+")]
        rows.append(f"| {line.tasks} | {line.k} | {' | '.join(told)} |")
    return "\n".join(rows)


def percent(value: Interval, sign: str = "") -> str:
    """A mean and its interval in percent: "96.6 (94.1 to 98.7)"."""
    mean, low, high = (f"{100 * v:{sign}.1f}" for v in (value.mean, value.low, value.high))
    return f"{mean} ({low} to {high})"
