"""Exact match of greedy answers, by teacher forcing: every answer token must be the likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_studio.demo import batching
from lora_studio.demo.tasks import Example
from lora_studio.evaluation.metrics import Rate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
) -> Rate:
    """Exact match over the examples."""
    matches = exact_matches(model, tokenizer, examples, device)
    return Rate(sum(matches), len(matches))
