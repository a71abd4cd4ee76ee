"""Which of the adapters nearest to a prompt answer it, and how they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

BLANK = ""
"""Key, among cosines by adapter, of the cosine to a text that says nothing."""
BLANK_TEXT = " "
FITS = -0.01
"""Margin from which on an adapter is said to be made for a task; a sentence that describes one is
farther from its sample inputs than prompts are."""


@dataclass(frozen=True)
class Choice:
    """A rule on cosines of a prompt to the places of adapters. As it stands, the nearest share
    evenly, whatever their cosines.

    Args:
        margin: an adapter answers only if it is nearer to the prompt by as much than a blank text
            is, above 0 to 1; 0 = no limit. A cosine by itself says little: under a retriever's
            instruction all texts are alike, and how much is for the blank one to say.
        gap: the nearest answers alone if its cosine is greater than the next by as much, above 0 to
            1; 0 = never.
        temperature: shares are the softmax of cosines over it, above 0 to 1; 0 = even.
    """

    margin: float = 0.0
    gap: float = 0.0
    temperature: float = 0.0

    @property
    def looks(self) -> bool:
        """Whether cosines matter beyond their order."""
        return bool(self.margin or self.gap or self.temperature)

    def shares(self, similarity: Mapping[str, float], top_k: int, blank: float) -> dict[str, float]:
        """Adapter id -> share of those that answer, nearest first; shares add up to 1, and are
        empty where none is near enough.

        Args:
            blank: cosine of the prompt to a blank text.
        """
        ranked = sorted(similarity, key=lambda i: (-similarity[i], i))
        near = [similarity[i] for i in ranked]
        chosen = ranked[:top_k]
        if self.gap and len(ranked) > 1 and near[0] - near[1] >= self.gap:
            chosen = ranked[:1]
        if self.margin:
            chosen = [i for i in chosen if similarity[i] - blank >= self.margin]
        if not chosen:
            return {}
        if not self.temperature:
            return dict.fromkeys(chosen, 1.0 / len(chosen))
        powers = np.exp((np.array([similarity[i] for i in chosen]) - near[0]) / self.temperature)
        return dict(zip(chosen, (powers / powers.sum()).tolist(), strict=True))


EVENLY = Choice()
"""The nearest share evenly."""
