"""What adapters answer to their own sample inputs: material for fitting beside a frozen model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_studio.engines.rows import Row, RowPlan, Sampling
from lora_studio.engines.text import TextEngine


@dataclass(frozen=True)
class Lesson:
    """A prompt of an adapter and its own answer, as token ids."""

    owner: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def own_answers(
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
    wish = Sampling(max_new_tokens=longest)
    rows = [
        Row(f"{name}/{i}", prompt, RowPlan(((name, 1.0),)), wish)
        for name, prompts in samples.items()
        for i, prompt in enumerate(prompts)
    ]
    lessons = []
    for row, out in zip(rows, engine.generate(rows, check=check).rows, strict=True):
        if out.token_ids and out.stop in ("eos", "length"):
            prompt = tuple(engine.prompt_ids(row.prompt))
            lessons.append(Lesson(row.id.rpartition("/")[0], prompt, out.token_ids))
    return lessons


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


@contextmanager
def frozen(engine: TextEngine) -> Iterator[None]:
    """Within, gradients flow through the model but not into it."""
    before = [(p, p.requires_grad) for p in engine.model.parameters()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, asked in before:
            parameter.requires_grad_(asked)
