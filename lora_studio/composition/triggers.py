"""The trigger words of what is made of several adapters, and those that wake more than one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def merged_triggers(sources: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """{words: each once, as first spelt, in order; collisions: [{word, sources}]}, as JSON.

    Args:
        sources: (title, trigger words) of each. Words that differ in case or spacing are one.
    """
    owners: dict[str, list[str]] = {}
    spelt: dict[str, str] = {}
    for title, words in sources:
        for word in words:
            key = " ".join(word.casefold().split())
            if not key:
                continue
            spelt.setdefault(key, " ".join(word.split()))
            if title not in owners.setdefault(key, []):
                owners[key].append(title)
    clashes = [{"word": spelt[k], "sources": v} for k, v in owners.items() if len(v) > 1]
    return {"words": list(spelt.values()), "collisions": clashes}
