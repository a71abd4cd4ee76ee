"""What adapters answer to prompts, each alone: what merges and routers are fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lora_studio.engines.rows import Row, RowPlan, Sampling
from lora_studio.engines.text import TextEngine


def own_answers(
    engine: TextEngine,
    asked: Sequence[tuple[str, str]],
    longest: int,
    check: Callable[[], None] | None = None,
) -> list[tuple[int, ...]]:
    """Token ids of the greedy answer to each question, of at most `longest` tokens; none where
    there is no answer or the adapter made the model's numbers not finite.

    Args:
        asked: (name of an adapter in the engine's bank, prompt).
        check: called between steps and at the end; may raise to cancel.
    """
    greedy = Sampling(max_new_tokens=longest)
    rows = [
        Row(str(i), prompt, RowPlan(((name, 1.0),)), greedy)
        for i, (name, prompt) in enumerate(asked)
    ]
    found = engine.generate(rows, check=check).rows
    if check:
        check()
    return [row.token_ids if row.stop != "invalid" else () for row in found]
