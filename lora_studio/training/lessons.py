"""What adapters answer to their own sample inputs: material for fitting beside a frozen model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_studio.engines.own_answers import own_answers
from lora_studio.engines.text import TextEngine


@dataclass(frozen=True)
class Lesson:
    """A prompt of an adapter and its own answer, as token ids."""

    owner: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def lessons_of(
    engine: TextEngine,
    samples: Mapping[str, Sequence[str]],
    longest: int,
    check: Callable[[], None] = lambda: None,
) -> list[Lesson]:
    """Greedy answers of at most `longest` tokens, each adapter alone; those that are not finite are
    left out.

    Args:
        samples: id of an adapter in the engine's bank -> sample inputs.
    """
    asked = [(name, prompt) for name, prompts in samples.items() for prompt in prompts]
    answers = own_answers(engine, asked, longest, check)
    return [
        Lesson(name, tuple(engine.prompt_ids(prompt)), answer)
        for (name, prompt), answer in zip(asked, answers, strict=True)
        if answer
    ]


def padded(
    lessons: Sequence[Lesson], pad: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """ids, mask and targets (n, T), padded on the right; what is no answer has target -100."""
    rows = [lesson.prompt + lesson.answer for lesson in lessons]
    longest = max(map(len, rows))
    ids = [list(row) + [pad] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    targets = [
        [-100] * len(one.prompt) + list(one.answer) + [-100] * (longest - len(row))
        for one, row in zip(lessons, rows, strict=True)
    ]
    made = (torch.tensor(v, device=device) for v in (ids, mask, targets))
    first, second, third = made
    return first, second, third
