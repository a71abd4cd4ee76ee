"""Token batches for training and scoring: padding, buckets of similar length, loss masks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_studio.demo.tokenizer import PAD, answer_ids, prompt_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

IGNORE = -100


@dataclass(frozen=True)
class TokenRow:
    """Token ids, and how many of them at the start carry no loss."""

    ids: list[int]
    silent: int


def encode_chat(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> TokenRow:
    """A request and its answer; the loss falls on the answer and the end mark."""
    start = prompt_ids(tokenizer, prompt)
    return TokenRow(start + answer_ids(tokenizer, answer), len(start))


def collate(items: Sequence[TokenRow], device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, both (batch, length); labels are -100 where there is no loss."""
    import torch

    length = max(len(item.ids) for item in items)
    ids = torch.full((len(items), length), PAD)
    labels = torch.full((len(items), length), IGNORE)
    for row, item in enumerate(items):
        filled = torch.tensor(item.ids)
        ids[row, : len(item.ids)] = filled
        labels[row, item.silent : len(item.ids)] = filled[item.silent :]
    return ids.to(device), labels.to(device)


def bucketed(
    items: Sequence[TokenRow], size: int, rng: random.Random, window: int = 50
) -> Iterator[list[TokenRow]]:
    """One pass over `items` in their order, in batches of `size` of similar length; batches are
    shuffled inside a window of `window` batches."""
    span = size * window
    for start in range(0, len(items), span):
        part = sorted(items[start : start + span], key=lambda item: len(item.ids))
        batches = [part[i : i + size] for i in range(0, len(part), size)]
        rng.shuffle(batches)
        yield from batches


def trapezoid(step: int, steps: int, warm_up: int, flat: float) -> float:
    """Learning-rate factor: linear warm-up, flat until `flat` of all steps, then linear to 0."""
    if step < warm_up:
        return (step + 1) / warm_up
    turn = max(flat * steps, warm_up)
    return 1.0 if step < turn else max(0.0, (steps - step) / (steps - turn))


def set_rates(optimisers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Sets every group's rate to its `peak` times `factor`."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor


def next_token_loss(hidden: torch.Tensor, head: Callable, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next token. hidden: (batch, length, d); labels: (batch, length)."""
    import torch

    target = labels[:, 1:].reshape(-1)  # (batch * (length - 1),)
    keep = target != IGNORE
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1])[keep]  # (kept, d)
    return torch.nn.functional.cross_entropy(head(states).float(), target[keep])
