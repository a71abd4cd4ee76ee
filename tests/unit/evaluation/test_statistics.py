"""Intervals and paired tests against worked examples, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.evaluation.metrics import METRICS, Rate
from lora_studio.evaluation.statistics import difference, estimate, ratio, sign_test

EXACT, LOSS, ROUGE = (METRICS.get(name) for name in ("exact_match", "loss", "rouge_l"))


def test_right_or_wrong_has_wilson_s_interval():
    found = estimate(EXACT, [1.0] * 8 + [0.0] * 2)
    assert (found.low, found.high) == Rate(8, 10).interval
    assert (found.value, found.n) == (0.8, 10)


def test_tokens_weigh_a_loss_and_perplexity_is_of_the_weighted_mean():
    found = estimate(LOSS, [1.0, 4.0], [30, 10])
    assert found.value == pytest.approx((30 * 1 + 10 * 4) / 40)
    shown = estimate(METRICS.get("perplexity"), [1.0, 4.0], [30, 10])
    assert shown.value == pytest.approx(np.exp(found.value))
    assert shown.low <= shown.value <= shown.high


def test_a_bootstrap_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        found = estimate(ROUGE, list(rng.beta(2, 5, 60)), seed=trial)  # mean 2/7
        held += found.low <= 2 / 7 <= found.high
    assert 180 <= held <= 199


def test_nothing_measured_is_no_figure():
    assert np.isnan(estimate(EXACT, []).value)
    assert difference([], []).p == 1.0


@pytest.mark.parametrize(
    ("ahead", "behind", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (5, 0, 0.0625), (9, 1, 0.021484375), (1, 9, 0.021484375)],
)
def test_the_sign_test_is_the_exact_binomial_s(ahead: int, behind: int, p: float):
    assert sign_test(ahead, behind) == pytest.approx(p)


def test_the_sign_test_stands_thousands_of_prompts():
    assert 0 <= sign_test(4000, 100) < 1e-100
    assert sign_test(5000, 5000) == 1.0


def test_a_difference_is_paired():
    """The same prompts are hard for both: apart the intervals overlap, paired it is plain."""
    rng = np.random.default_rng(1)
    hard = rng.random(200)
    one, other = hard + 0.05, hard
    assert estimate(ROUGE, list(one)).overlaps(estimate(ROUGE, list(other)))
    gap = difference(list(one), list(other))
    assert gap.low == pytest.approx(0.05) == gap.high
    assert (gap.ahead, gap.behind) == (200, 0)


def test_a_ratio_is_of_means_and_undefined_over_nothing():
    found = ratio([1, 1, 0, 1], [1, 1, 1, 1])
    assert found.value == 0.75
    assert found.low <= 0.75 <= found.high <= 1.0
    assert np.isnan(ratio([1.0], [0.0]).value)
