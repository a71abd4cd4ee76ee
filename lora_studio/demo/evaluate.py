"""Exact match of greedy answers, by teacher forcing: every answer token must be the likeliest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_studio.demo import batching
from lora_studio.demo.tasks import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Score:
    """How many of `total` answers were exactly right."""

    right: int
    total: int

    @property
    def rate(self) -> float:
        return self.right / self.total if self.total else 0.0

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson score interval, 95 % by default."""
        if not self.total:
            return 0.0, 1.0
        spread = z * z / self.total
        centre = (self.rate + spread / 2) / (1 + spread)
        half = math.sqrt(self.rate * (1 - self.rate) / self.total + spread / (4 * self.total))
        half *= z / (1 + spread)
        return max(0.0, centre - half), min(1.0, centre + half)


def exact_matches(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    device: str = "cpu",
    batch: int = 100,
) -> list[bool]:
    """For each example whether the model's greedy answer, with its end mark, is the target.

    Greedy decoding writes the target exactly when each target token is the argmax given those
    before it, so one forward pass decides.
    """
    import torch

    rows = [batching.encode_chat(tokenizer, e.prompt, e.target) for e in examples]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    right = [False] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            ids, labels = batching.collate([rows[index] for index in part], device)
            guess = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)
            target = labels[:, 1:]  # (batch, length - 1)
            fits = ((guess == target) | (target == batching.IGNORE)).all(-1)
            for index, fit in zip(part, fits.tolist(), strict=True):
                right[index] = fit
    return right


def score(
    model: Any, tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], device: str = "cpu"
) -> Score:
    """Exact match over the examples."""
    matches = exact_matches(model, tokenizer, examples, device)
    return Score(sum(matches), len(matches))
