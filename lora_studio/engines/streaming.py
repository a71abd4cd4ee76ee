"""Turns growing token lists into text for people: at most every 50 ms, whole texts, and never half
a character."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from lora_studio.engines.choosing import Slot
from lora_studio.engines.rows import RowUpdate

INTERVAL = 0.05
UNFINISHED = "\ufffd"


class TextStream:
    """Collects the rows that changed and hands them on.

    Args:
        tokenizer: decodes token ids.
        ends: ids that end a row; they are no text.
        on_tokens: receives the changed rows; None collects nothing.
    """

    def __init__(
        self,
        tokenizer: Any,
        ends: frozenset[int],
        on_tokens: Callable[[list[RowUpdate]], None] | None,
    ) -> None:
        self.tokenizer, self.ends, self.on_tokens = tokenizer, ends, on_tokens
        self._changed: dict[int, Slot] = {}
        self._next = 0.0

    def text(self, slot: Slot) -> str:
        """The row's text so far; bytes of a character still to come are held back."""
        ids = [token for token in slot.made if token not in self.ends]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text if slot.stop else text.rstrip(UNFINISHED)

    def changed(self, slots: Sequence[Slot]) -> None:
        """Notes the rows that got a token and hands them on if it is time."""
        if self.on_tokens is None:
            return
        self._changed.update((id(slot), slot) for slot in slots)
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Hands on what changed since the last time."""
        if self.on_tokens is None or not self._changed:
            return
        slots, self._changed = list(self._changed.values()), {}
        self.on_tokens(
            [RowUpdate(s.row.id, self.text(s), len(s.made), s.stop is not None) for s in slots]
        )
        self._next = time.monotonic() + INTERVAL
