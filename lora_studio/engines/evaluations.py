"""Which branches of which pictures a denoiser is asked for, and in which order and portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lora_studio.composition.gate import Gate
from lora_studio.composition.schedule import Weights

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Evaluation:
    """One branch of one picture at a step; those of equal keys share one set of factors."""

    row: int
    branch: int
    key: Key
    weights: Weights


def key_of(weights: Weights, gate: Gate | None) -> Key:
    """Equal for weights and gates that act alike."""
    acting = tuple(
        (i, w if isinstance(w, int | float) else tuple(sorted(w.items())))
        for i, w in sorted(weights.items())
        if w
    )
    return (*acting, id(gate)) if acting and gate is not None else acting


def chunks(
    jobs: Sequence[Evaluation], most: int, *, alike: bool, whole: bool
) -> Iterator[Sequence[Evaluation]]:
    """Portions of at most `most` evaluations, those of one key side by side.

    Args:
        alike: only evaluations of one key in a portion.
        whole: all evaluations of a picture in one portion, even if they are more than `most`.
    """
    if whole:
        pictures = [list(mine) for _, mine in groupby(jobs, key=lambda job: job.row)]
        size = max(1, most // max(len(mine) for mine in pictures))
        for start in range(0, len(pictures), size):
            yield _side_by_side([job for mine in pictures[start : start + size] for job in mine])
        return
    jobs, start = _side_by_side(jobs), 0
    for place in range(1, len(jobs) + 1):
        ends = place == len(jobs) or place - start == most
        if ends or (alike and jobs[place].key != jobs[start].key):
            yield jobs[start:place]
            start = place


def _side_by_side(jobs: Sequence[Evaluation]) -> list[Evaluation]:
    order = {key: place for place, key in enumerate(dict.fromkeys(job.key for job in jobs))}
    return sorted(jobs, key=lambda job: order[job.key])
