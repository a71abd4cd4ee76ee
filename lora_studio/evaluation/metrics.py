"""Exact match and its interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

Z95 = 1.959963984540054


def exact_match(answer: str, target: str) -> bool:
    """Whether two texts are the same but for surrounding and repeated white space."""
    return " ".join(answer.split()) == " ".join(target.split())


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % Wilson interval.

    Wilson, E. B. (1927). Never leaves [0, 1], and is honest at 0 and 1, where the normal
    approximation has no width.
    """

    correct: int
    n: int

    @property
    def rate(self) -> float:
        return self.correct / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high), both in [0, 1]; (0, 1) when nothing was measured."""
        if not self.n:
            return 0.0, 1.0
        p, n, z2 = self.rate, self.n, Z95**2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.correct + other.correct, self.n + other.n)

    def to_dict(self) -> dict[str, float | int]:
        low, high = self.interval
        return {
            "n": self.n,
            "correct": self.correct,
            "rate": self.rate,
            "low": low,
            "high": high,
        }
