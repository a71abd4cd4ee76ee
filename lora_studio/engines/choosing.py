"""How the next token of each row is chosen: greedily, or sampled with the row's own generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lora_studio.engines.rows import Row, Stop


@dataclass(eq=False)
class Slot:
    """A row on its way: its prompt's token ids, how many tokens it may make, and those made."""

    row: Row
    prompt: list[int]
    limit: int
    made: list[int] = field(default_factory=list)
    stop: Stop | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.generator.manual_seed(self.row.seed % (1 << 63))

    def take(self, token: int, ends: frozenset[int]) -> None:
        """Records a chosen token, or that there is none to choose (-1)."""
        if token < 0:
            self.stop = "invalid"
            return
        self.made.append(token)
        if token in ends:
            self.stop = "eos"
        elif len(self.made) >= self.limit:
            self.stop = "length"


def choose(logits: Tensor, slots: Sequence[Slot]) -> list[int]:
    """The next token of each row from logits (n, vocab); -1 where a row's logits hold NaN.

    A sampled row uses one number of its own generator a token, so neighbours do not matter.
    """
    logits = logits.float()
    broken = torch.isnan(logits).any(dim=1)  # (n,)
    logits = _penalised(logits, slots)
    tokens = logits.argmax(dim=1)  # (n,)
    warm = [i for i, slot in enumerate(slots) if slot.row.sampling.temperature > 0.0]
    if warm:
        index = torch.tensor(warm, device=logits.device)
        tokens[index] = _sample(logits[index].nan_to_num(nan=0.0), [slots[i] for i in warm])
    return torch.where(broken, -1, tokens).tolist()


def _penalised(logits: Tensor, slots: Sequence[Slot]) -> Tensor:
    """Tokens already seen lose by the repetition penalty: positive logits are divided by it,
    negative ones multiplied (CTRL, arXiv 1909.05858)."""
    penalties = [slot.row.sampling.repetition_penalty for slot in slots]
    if all(penalty == 1.0 for penalty in penalties):
        return logits
    logits = logits.clone()
    for i, (slot, penalty) in enumerate(zip(slots, penalties, strict=True)):
        if penalty != 1.0:
            seen = torch.tensor(sorted({*slot.prompt, *slot.made}), device=logits.device)
            values = logits[i, seen]
            logits[i, seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def _sample(logits: Tensor, slots: Sequence[Slot]) -> Tensor:
    """(n,) tokens by inverse distribution function over the sorted, cut and rescaled
    probabilities; one uniform number a row."""
    vocab = logits.shape[1]

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=logits.device, dtype=torch.float32)[:, None]  # (n, 1)

    styles = [slot.row.sampling for slot in slots]
    scaled = logits / column([max(s.temperature, 1e-4) for s in styles])
    ordered, order = scaled.sort(dim=1, descending=True, stable=True)
    rank = torch.arange(vocab, device=logits.device)[None]  # (1, vocab)
    allowed = rank < column([s.top_k or vocab for s in styles])
    probs = ordered.masked_fill(~allowed, float("-inf")).softmax(dim=1)
    before = probs.cumsum(dim=1) - probs
    probs = probs * (before < column([s.top_p for s in styles]))
    reached = probs.cumsum(dim=1)
    draws = [float(torch.rand((), generator=slot.generator)) for slot in slots]
    goal = column(draws) * reached[:, -1:]
    pick = torch.searchsorted(reached, goal, right=True)  # (n, 1)
    last = (probs > 0).sum(dim=1, keepdim=True) - 1
    return order.gather(1, pick.minimum(last))[:, 0]
