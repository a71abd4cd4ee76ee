import pytest

from lora_studio.evaluation.metrics import Rate, exact_match


def test_white_space_does_not_decide_a_match():
    assert exact_match(" The  dog ran.\n", "The dog ran.")
    assert not exact_match("The dog ran", "The dog ran.")


def test_intervals_are_wilson_s():
    low, high = Rate(8, 10).interval  # worked example: 0.490, 0.943
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Rate(10, 10).interval[1] == pytest.approx(1.0)
    assert Rate(10, 10).interval[0] == pytest.approx(0.7225, abs=1e-4)
    assert Rate(0, 0).interval == (0.0, 1.0)


def test_rates_add_up():
    assert Rate(1, 2) + Rate(3, 4) == Rate(4, 6)
