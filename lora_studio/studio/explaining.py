"""Why a text came out as it did: which adapter and which rank unit spoke where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_studio.errors import InvalidRequest
from lora_studio.studio.columns import named
from lora_studio.studio.comparing import Comparer
from lora_studio.studio.flow import Flow
from lora_studio.studio.leaderboards import Measuring
from lora_studio.studio.permissions import Actor

LONGEST = 4000


class Explaining(Measuring):
    """The part of a studio that shows a plan at work."""

    _comparer: Comparer

    def explain_answer(
        self,
        prompt: str,
        text: str,
        column: Mapping[str, Any],
        base: str = "",
        seed: int = 0,
        *,
        actor: Actor | None = None,
    ) -> Flow:
        """Reads an answer again in the column that gave it, and tells who spoke at each token.

        Result {tokens, answer, layers, adapters, wrote, weights, units, titles [[id, title]],
        column}, see `composition.decision.Decision`.

        Args:
            text: the answer; at most 4,000 characters, as the prompt.
            column: as in `compare_outputs`; not the base model.
            seed: that of the comparison, which chose a random adapter.
        """
        name = base or self.settings.base_model
        who = self._generating(actor, name)
        if not prompt.strip() or not text.strip() or max(len(prompt), len(text)) > LONGEST:
            raise InvalidRequest(f"Prompt and answer need 1 to {LONGEST} characters each.")
        if column.get("kind") == "base":
            raise InvalidRequest("The base model has no adapters that could speak.")
        self._access.visible(named([column]), who)
        return self._flow(
            who, lambda flow: self._comparer.explain(flow, prompt, text, column, name, seed, who)
        )
