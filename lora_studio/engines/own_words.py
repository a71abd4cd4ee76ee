"""Texts that a language model writes when nobody asks it anything: samples of its own skills."""

from __future__ import annotations

from collections.abc import Callable

from lora_studio.engines.choosing import Slot
from lora_studio.engines.rows import Row, Sampling
from lora_studio.engines.text import TextEngine

MARK = "\x02"
LONGEST = 96


def own_words(
    engine: TextEngine, count: int, seed: int, check: Callable[[], None] | None = None
) -> list[list[int]]:
    """Token ids of up to `count` texts, each sampled from the beginning of a user's turn on (from
    nothing where there is no chat template), so that the model makes up prompts as well as answers
    (as Magpie does, arXiv 2406.08464). Only finished, finite ones of at least two tokens."""
    start = _opening(engine)
    if not start:
        return []
    free = Sampling(temperature=1.0, max_new_tokens=LONGEST)
    room = min(LONGEST, engine.max_tokens - len(start))
    slots = [Slot(Row(str(i), "", sampling=free, seed=seed + i), start, room) for i in range(count)]
    engine.decoder.run(slots, lambda changed: None, check or (lambda: None))
    return [start + slot.made for slot in slots if slot.stop != "invalid" and len(slot.made) > 1]


def _opening(engine: TextEngine) -> list[int]:
    """The template up to where the user's words begin; else the token that begins a text."""
    tokenizer = engine.tokenizer
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": MARK}]
        whole = tokenizer.apply_chat_template(turn, tokenize=False)
        before = whole.partition(MARK)[0].rstrip(" ")
        ids = list(tokenizer(before, add_special_tokens=False)["input_ids"])
        if ids and MARK in whole:
            return ids
    first = tokenizer.bos_token_id
    if first is None:
        first = tokenizer.eos_token_id
    return [] if first is None else [int(first)]
