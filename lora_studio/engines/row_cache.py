"""The key-value cache of a batch whose rows join and leave: left-padded, with its mask. Decides
here, and only here, whether a model's cache allows that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


def rows_can_join(model: PreTrainedModel) -> bool:
    """True if every layer keeps plain growing keys and values. Sliding, recurrent and hybrid
    layers do not; such models run in waves of prompts of one length, so nothing is padded."""
    cache = DynamicCache(config=model.config)
    return all(type(layer) is DynamicLayer for layer in cache.layers)


@dataclass(eq=False)
class RowCache:
    """Keys and values of n rows.

    Args:
        cache: per layer keys and values (n, heads, L, head_dim), left-padded.
        mask: (n, L) 1 where a row has a token, 0 in its padding.
    """

    cache: DynamicCache
    mask: Tensor

    @property
    def positions(self) -> Tensor:
        """(n, 1) position of each row's next token."""
        return self.mask.sum(dim=1, keepdim=True)

    def extend(self) -> None:
        """Marks one more token in every row."""
        self.mask = pad(self.mask, [0, 1], value=1)

    def select(self, keep: Sequence[int]) -> None:
        """Only the rows `keep`; padding that no row needs any more is cut off."""
        order = torch.tensor(keep, device=self.mask.device)
        mask = self.mask.index_select(0, order)
        dead = int(mask.shape[1] - mask.sum(dim=1).max())
        self.mask = mask[:, dead:]
        self.cache.reorder_cache(order)  # pyright: ignore[reportArgumentType]
        if dead:
            for layer in self._filled():
                layer.keys = layer.keys[:, :, dead:]
                layer.values = layer.values[:, :, dead:]

    def join(self, other: RowCache) -> None:
        """Adds the other's rows below these, both left-padded to the longer length."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        mine, theirs = length - self.mask.shape[1], length - other.mask.shape[1]
        self.mask = torch.cat([pad(self.mask, [mine, 0]), pad(other.mask, [theirs, 0])])
        for layer, new in zip(self._filled(), other._filled(), strict=True):
            left, right = [0, 0, mine, 0], [0, 0, theirs, 0]
            layer.keys = torch.cat([pad(layer.keys, left), pad(new.keys, right)])
            layer.values = torch.cat([pad(layer.values, left), pad(new.values, right)])

    def _filled(self) -> list[Any]:
        layers: list[Any] = self.cache.layers
        return [layer for layer in layers if layer.is_initialized]
