"""What a guess at an adapter's base model is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guess:
    """A family ("sd1", ..., "causal-lm"; "" if it cannot be told) and why, as sentences."""

    family: str = ""
    evidence: tuple[str, ...] = ()
