"""Trains a head over a frozen embedder, so that inputs of one task lie nearer to each other than to
those of other tasks, also of tasks that were not there (LoraRetriever, arXiv 2402.09997).

In numpy: a few hundred vectors and one matrix take a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lora_studio.composition.method import Progress, no_progress
from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.head import Head
from lora_studio.retrieval.retriever import unit_rows

_MASKED = -1e9


@dataclass(frozen=True)
class HeadSpec:
    """How a head is trained.

    Args:
        fraction: of the tasks that are trained on, in (0, 1]; 0.4 in the paper.
        temperature: of the contrast (gamma); cosines are divided by it.
        steps, rate: of Adam over all samples at once; the rate falls to zero on a line. Few and
            small, which is what keeps the head near the embedder: with ten times the rate, tasks
            that were not trained on lose (docs/routing.md).
        seed: which tasks are trained on.
    """

    fraction: float = 0.4
    temperature: float = 0.05
    steps: int = 100
    rate: float = 1e-4
    seed: int = 0


def trained_on(tasks: Sequence[str], spec: HeadSpec) -> tuple[str, ...]:
    """The tasks that a head is trained on, drawn by the seed; two at least.

    Raises:
        InvalidRequest: a fraction out of range.
    """
    if not 0 < spec.fraction <= 1:
        raise InvalidRequest("The fraction must be above 0, and 1 at most.")
    names = sorted(set(tasks))
    count = min(len(names), max(2, round(spec.fraction * len(names))))
    drawn = np.random.default_rng(spec.seed).permutation(len(names))[:count]
    return tuple(names[i] for i in sorted(drawn.tolist()))


def fit_head(
    embedder: str,
    samples: Mapping[str, np.ndarray],
    spec: HeadSpec = HeadSpec(),
    progress: Progress = no_progress,
    check: Callable[[], None] = lambda: None,
) -> Head:
    """Trains on all tasks given: mean over x and its positives x+ of the same task of

        -log( e^{s(x,x+)/gamma} / (e^{s(x,x+)/gamma} + sum of e^{s(x,x-)/gamma}) )

    where s is the cosine under the head and x- are all samples of other tasks. The paper prints
    the fraction without the logarithm and tunes the whole embedder; here that stays frozen and a
    matrix is tuned, beginning at the identity.

    Args:
        embedder: its id.
        samples: task -> (n, dim) embeddings of its sample inputs, two or more of each.
        check: called between steps; may raise to cancel.

    Raises:
        InvalidRequest: fewer than two tasks, or one with fewer than two samples.
    """
    if len(samples) < 2 or any(len(rows) < 2 for rows in samples.values()):
        raise InvalidRequest(
            "Training a retriever needs two or more tasks with two or more sample inputs each."
        )
    rows = [unit_rows(samples[name]).astype(np.float64) for name in sorted(samples)]
    vectors = np.concatenate(rows)  # (n, dim)
    same = _same([len(r) for r in rows])
    before, after, update = _tuned(vectors, same, spec, progress, check)
    facts = {
        **asdict(spec),
        "tasks": sorted(samples),
        "samples": len(vectors),
        "before": round(before, 4),
        "after": round(after, 4),
    }
    return Head(embedder, update.astype(np.float32), facts)


def _tuned(
    vectors: np.ndarray,
    same: np.ndarray,
    spec: HeadSpec,
    progress: Progress,
    check: Callable[[], None],
) -> tuple[float, float, np.ndarray]:
    """Loss before, loss after, and U (dim, dim), by Adam from U = 0."""
    dim = vectors.shape[1]
    update, first, second = (np.zeros((dim, dim)) for _ in range(3))
    before = _loss(vectors, update, same, spec.temperature)[0]
    for step in range(1, spec.steps + 1):
        check()
        slope = _loss(vectors, update, same, spec.temperature)[1]
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope * slope
        rate = spec.rate * (1 - (step - 1) / spec.steps)
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        update -= rate * mean / (np.sqrt(square) + 1e-8)
        if step % 10 == 0 or step == spec.steps:
            progress(step / spec.steps, f"training the retriever, step {step}")
    return before, _loss(vectors, update, same, spec.temperature)[0], update


def _same(sizes: Sequence[int]) -> np.ndarray:
    """(n, n) bool: two different samples of one task."""
    task = np.repeat(np.arange(len(sizes)), sizes)  # (n,)
    same = task[:, None] == task[None]
    np.fill_diagonal(same, False)
    return same


def _loss(
    vectors: np.ndarray, update: np.ndarray, same: np.ndarray, temperature: float
) -> tuple[float, np.ndarray]:
    """The loss above at `update`, and its gradient (dim, dim)."""
    count = len(vectors)
    mapped = vectors + vectors @ update.T  # (n, dim)
    lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
    rows = mapped / lengths
    cosines = rows @ rows.T / temperature  # (n, n)
    np.fill_diagonal(cosines, _MASKED)
    powers = np.exp(cosines - cosines.max(1, keepdims=True))
    others = np.where(same, 0.0, powers)
    np.fill_diagonal(others, 0.0)
    whole = powers + others.sum(1, keepdims=True)  # of each pair: itself and all negatives
    share = same / same.sum(1, keepdims=True)
    right = np.maximum(powers / whole, 1e-300)
    loss = -float((share * np.log(right)).sum()) / count
    slope = -share * (1 - right) + others * (share / whole).sum(1, keepdims=True)
    slope /= count * temperature
    pull = (slope + slope.T) @ rows  # (n, dim)
    pull = (pull - (pull * rows).sum(1, keepdims=True) * rows) / lengths
    return loss, pull.T @ vectors
