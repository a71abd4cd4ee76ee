"""From plans that ask for something inside the attention to the rules that carry it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_studio.engines.attention import AttentionRules, Tokens, token_places
from lora_studio.engines.pictures import Denoising, ImageRow
from lora_studio.engines.settling import grid
from lora_studio.errors import InvalidRequest
from lora_studio.families.family import Family


def attention_rules(
    pipe: Any, family: Family, rows: Sequence[ImageRow], wish: Denoising
) -> AttentionRules | None:
    """The rules for a batch of pictures, or None where no plan asks for any.

    Raises:
        InvalidRequest: a prompt without the words that are to be watched, or a denoiser whose
            attention cannot be looked into.
    """
    plans = [row.plan.attention for row in rows]
    if not any(plans):
        return None
    tokens: dict[tuple[int, int], Tokens] = {}
    for place, row in enumerate(rows):
        for branch, _ in enumerate(row.plan.branches):
            tokens[place, branch] = _tokens(pipe.tokenizer, row, branch)
    denoiser = getattr(pipe, family.denoiser)
    return AttentionRules(denoiser, plans, tokens, grid(pipe, family, wish))


def _tokens(tokenizer: Any, row: ImageRow, branch: int) -> Tokens:
    words = row.plan.attention.words if row.plan.attention else {}
    prompt = row.plan.branches[branch].prompt or row.prompt
    found = {concept: token_places(tokenizer, prompt, said) for concept, said in words.items()}
    for concept, places in found.items():
        if not places:
            raise InvalidRequest(
                f"The prompt '{prompt}' does not name {concept}. Write one of its words in it: "
                f"{', '.join(words[concept])}."
            )
    return found
