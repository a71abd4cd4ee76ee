"""The decode loop: rows join while others run, stop on their own, and leave the batch at once."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.choosing import Slot, choose
from lora_studio.engines.row_cache import RowCache, rows_can_join
from lora_studio.engines.row_factors import RowFactors

JOIN_SHARE = 8
"""Waiting rows join once max_rows / 8 places are free: fewer, larger prefills."""


class Decoder:
    """Runs slots to their end on one model.

    Args:
        model, bank: the base and the adapters beside it.
        pad, ends: id put in padding, ids that end a row.
        max_rows: rows in the batch at once.
        max_bytes: cap on the gathered adapter factors of a batch; fewer rows join above it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        bank: AdapterBank,
        *,
        pad: int,
        ends: frozenset[int],
        max_rows: int,
        max_bytes: int,
    ) -> None:
        self.model, self.bank = model, bank
        self.pad, self.ends = pad, ends
        self.max_rows, self.max_bytes = max(1, max_rows), max_bytes
        self.device = next(model.parameters()).device
        self.can_join = rows_can_join(model)
        self._known = set(inspect.signature(model.forward).parameters)
        self._cache_name = cache_argument(model) or ""

    @torch.inference_mode()
    def run(
        self,
        slots: Sequence[Slot],
        on_step: Callable[[Sequence[Slot]], None],
        check: Callable[[], None],
    ) -> None:
        """Fills every slot. `on_step` gets the slots that changed; `check` may raise to stop."""
        waiting, running = deque(slots), list[Slot]()
        cache: RowCache | None = None
        factors = RowFactors((), {})
        while waiting or running:
            check()
            joining = self._admit(waiting, running)
            if joining:
                new_cache, new_factors = self._prefill(joining)
                on_step(joining)
                if cache is None or not running:
                    cache, factors = new_cache, new_factors
                else:
                    cache.join(new_cache)
                    factors = factors.join(new_factors)
                running += joining
            elif cache is not None:
                self._step(cache, factors, running)
                on_step(running)
            keep = [i for i, slot in enumerate(running) if slot.stop is None]
            if cache is not None and len(keep) < len(running):
                if keep:
                    cache.select(keep)
                factors = factors.select(keep)
                running = [running[i] for i in keep]

    def scores(self, prompts: Sequence[list[int]], factors: RowFactors, last: int) -> Tensor:
        """(n, last, vocab) logits at the last positions of left-padded token lists."""
        ids, mask = self._left_padded(prompts)
        with torch.inference_mode(), self.bank.active(factors):
            return self._forward(ids, mask, _positions(mask), None, last)

    def _admit(self, waiting: deque[Slot], running: list[Slot]) -> list[Slot]:
        """Takes the rows that join now from `waiting`."""
        free = self.max_rows - len(running)
        if not waiting or (running and not self.can_join):
            return []
        if running and free < min(len(waiting), max(1, self.max_rows // JOIN_SHARE)):
            return []
        used = sum(self.bank.row_bytes(slot.row.plan) for slot in running)
        joining: list[Slot] = []
        for slot in list(waiting):
            used += self.bank.row_bytes(slot.row.plan)
            full = len(joining) >= free or (used > self.max_bytes and (running or joining))
            if full:
                break
            if self.can_join or not joining or len(slot.prompt) == len(joining[0].prompt):
                joining.append(slot)
        for slot in joining:
            waiting.remove(slot)
        return joining

    def _prefill(self, slots: list[Slot]) -> tuple[RowCache, RowFactors]:
        factors = self.bank.gather([slot.row.plan for slot in slots])
        ids, mask = self._left_padded([slot.prompt for slot in slots])
        rows = RowCache(DynamicCache(config=self.model.config), mask)
        with self.bank.active(factors):
            logits = self._forward(ids, mask, _positions(mask), rows.cache, 1)
        self._record(logits[:, -1], slots)
        return rows, factors

    def _step(self, rows: RowCache, factors: RowFactors, slots: list[Slot]) -> None:
        last = torch.tensor([[slot.made[-1]] for slot in slots], device=self.device)  # (n, 1)
        positions = rows.positions
        rows.extend()
        with self.bank.active(factors):
            logits = self._forward(last, rows.mask, positions, rows.cache, 1)
        self._record(logits[:, -1], slots)

    def _record(self, logits: Tensor, slots: list[Slot]) -> None:
        for slot, token in zip(slots, choose(logits, slots), strict=True):
            slot.take(token, self.ends)

    def _forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None, last: int
    ) -> Tensor:
        """(n, last, vocab) logits."""
        optional = {"position_ids": positions, "logits_to_keep": last}
        extra = {name: value for name, value in optional.items() if name in self._known}
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=cache is not None,
            **{self._cache_name: cache},
            **extra,
        )
        return out.logits[:, -last:]

    def _left_padded(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """ids and mask, both (n, longest)."""
        longest = max(len(prompt) for prompt in prompts)
        ids = [[self.pad] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)


def cache_argument(model: PreTrainedModel) -> str | None:
    """What the model's forward calls its key-value cache; None if it keeps none.

    transformers 5.24 renamed it.
    """
    names = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in names), None)


def _positions(mask: Tensor) -> Tensor:
    """(n, T) position of each token; padding counts as 0."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
