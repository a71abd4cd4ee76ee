"""Means with intervals, and tests between two ways to answer the same prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_studio.evaluation.metrics import Metric, Rate

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure over n prompts with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Difference:
    """How much one way is ahead of another on the same prompts.

    Args:
        value, low, high: difference of the means, with the interval of a paired bootstrap.
        ahead, behind: prompts on which the first is larger, smaller.
        p: two-sided exact sign test on these; on values of 0 and 1 it is McNemar's exact test.
    """

    value: float
    low: float
    high: float
    ahead: int
    behind: int
    p: float

    def to_dict(self) -> dict[str, float | int]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "ahead": self.ahead,
            "behind": self.behind,
            "p": self.p,
        }


def estimate(
    metric: Metric, values: Sequence[float], tokens: Sequence[int] | None = None, seed: int = 0
) -> Estimate:
    """The mean of the rows' values as the metric shows it.

    The interval is Wilson's where rows are right or wrong, since a bootstrap of nothing but zeros
    has no width; else the percentiles of a bootstrap over prompts.

    Args:
        values: (n,) of the rows. tokens: (n,) of the rows, used by metrics that count by them.
    """
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    if metric.binary:
        rate = Rate(round(sum(values)), len(values))
        return Estimate(rate.rate, *rate.interval, rate.n)
    rows = np.asarray(values, np.float64)  # (n,)
    weights = _weights(metric, rows, tokens)
    drawn = _drawn(len(rows), seed) * weights  # (resamples, n)
    means = (drawn @ rows) / np.maximum(drawn.sum(1), 1e-300)  # (resamples,)
    low, high = (metric.shown(end) for end in _ends(means))
    return Estimate(metric.shown(float(np.average(rows, weights=weights))), low, high, len(rows))


def difference(
    one: Sequence[float], other: Sequence[float], seed: int = 0, weights: np.ndarray | None = None
) -> Difference:
    """One minus other, prompt by prompt.

    Args:
        one, other: (n,) values on the same prompts in the same order.
        weights: (n,) of the prompts; all alike if None.
    """
    gap = np.asarray(one, np.float64) - np.asarray(other, np.float64)  # (n,)
    if not gap.size:
        return Difference(0.0, 0.0, 0.0, 0, 0, 1.0)
    shares = np.ones(gap.size) if weights is None else np.asarray(weights, np.float64)
    drawn = _drawn(gap.size, seed) * shares  # (resamples, n)
    low, high = _ends((drawn @ gap) / np.maximum(drawn.sum(1), 1e-300))
    ahead, behind = int((gap > 0).sum()), int((gap < 0).sum())
    value = float(np.average(gap, weights=shares))
    return Difference(value, low, high, ahead, behind, sign_test(ahead, behind))


def ratio(one: Sequence[float], other: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of one over mean of other on the same prompts, with a paired bootstrap's interval; not
    a number where the other is zero."""
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)  # (n,) each
    if not left.size or not right.sum():
        return Estimate(float("nan"), float("nan"), float("nan"), int(left.size))
    drawn = _drawn(left.size, seed)
    below = drawn @ right  # (resamples,)
    ratios = np.divide(drawn @ left, below, out=np.ones_like(below), where=below != 0)
    return Estimate(float(left.sum() / right.sum()), *_ends(ratios), int(left.size))


def sign_test(ahead: int, behind: int) -> float:
    """Two-sided p of an exact binomial test that ahead and behind are equally likely; ties are
    left out. 1 where there is nothing but ties."""
    n, least = ahead + behind, min(ahead, behind)
    if not n:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(least + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(one) for one in logs))


def _weights(metric: Metric, rows: np.ndarray, tokens: Sequence[int] | None) -> np.ndarray:
    if not metric.by_token or tokens is None:
        return np.ones(rows.size)
    return np.maximum(np.asarray(tokens, np.float64), 1.0)


def _drawn(n: int, seed: int) -> np.ndarray:
    """(resamples, n) how often each prompt is drawn."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
