"""Merges that look at whole updates, against independent dense computations."""

import numpy as np
import pytest

from lora_studio.composition import compose
from lora_studio.composition.merging.combine import elect
from lora_studio.composition.merging.sparsify import (
    drop_random,
    drop_small_more,
    keep_largest,
    keep_middle,
)
from lora_studio.errors import InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance, weighted_sum

WEIGHTS = [1.0, 0.6, -0.4]


@pytest.fixture(scope="module")
def three():
    return [build_adapter(seed, rank=2 + seed, scaling=0.5 * seed) for seed in (1, 2, 3)]


def by_hand(adapters, thin, join):
    """Module -> join of the thinned, weighted dense updates."""
    found = {}
    for name in adapters[0].factors:
        updates = [w * deltas(a)[name] for a, w in zip(adapters, WEIGHTS, strict=True)]
        found[name] = join([thin(u) for u in updates])
    return found


def mean_of_majority(updates):
    stacked = np.stack(updates)
    agrees = np.sign(stacked) == np.sign(stacked.sum(0))
    return (stacked * agrees).sum(0) / np.maximum((agrees & (stacked != 0)).sum(0), 1)


@pytest.mark.parametrize("count", [3, 126, 127, 300])
def test_elections_count_votes_of_many_adapters(count):
    arrays = list(np.random.default_rng(count).standard_normal((count, 70, 5)))
    arrays[0][:] = 0
    np.testing.assert_allclose(elect(arrays, [1.0] * count), mean_of_majority(arrays), atol=1e-12)


def test_elections_count_unanimous_votes_of_many_adapters():
    arrays = [np.full((2, 2), 3.0)] * 300
    np.testing.assert_array_equal(elect(arrays, [1.0] * 300), arrays[0])
    np.testing.assert_array_equal(elect(arrays[:126], [1.0] * 126), arrays[0])


def largest(density):
    def thin(update):
        order = np.argsort(-np.abs(update), axis=None)
        kept = np.zeros(update.size)
        kept[order[: int(density * update.size)]] = 1
        return update * kept.reshape(update.shape)

    return thin


def middle(density, gamma):
    def thin(update):
        top = largest(gamma)(update)
        both = largest(density + gamma)(update)
        return both - top

    return thin


def test_task_arithmetic_is_the_sum_or_the_mean(three):
    total = weighted_sum(three, WEIGHTS)
    exact = compose("task_arithmetic", three, WEIGHTS).adapter
    assert distance(deltas(exact), total) < 1e-5
    mean = compose("task_arithmetic", three, WEIGHTS, mean=True).adapter
    assert distance(deltas(mean), {n: d / 2 for n, d in total.items()}) < 1e-5
    cut = compose("task_arithmetic", three, WEIGHTS, rank=5).adapter
    assert distance(deltas(cut), deltas(compose("svd", three, WEIGHTS).adapter)) < 1e-5


@pytest.mark.parametrize(
    ("method", "params", "thin", "join"),
    [
        ("ties_delta", {"density": 0.4}, largest(0.4), mean_of_majority),
        ("breadcrumbs_delta", {"density": 0.4, "gamma": 0.1}, middle(0.4, 0.1), sum),
        (
            "breadcrumbs_delta",
            {"density": 0.4, "gamma": 0.1, "elect_signs": True},
            middle(0.4, 0.1),
            mean_of_majority,
        ),
    ],
)
def test_what_is_kept_and_how_it_is_joined_is_the_formula(three, method, params, thin, join):
    merged = compose(method, three, WEIGHTS, rank=64, **params).adapter
    assert distance(deltas(merged), by_hand(three, thin, join)) < 1e-5


@pytest.mark.parametrize("method", ["dare_delta", "della_delta"])
def test_random_merges_that_drop_nothing_are_the_sum_and_elect_as_ties_does(three, method):
    params = {"density": 1.0, "rank": 64}
    summed = compose(method, three, WEIGHTS, elect_signs=False, **params).adapter
    assert distance(deltas(summed), weighted_sum(three, WEIGHTS)) < 1e-5
    elected = compose(method, three, WEIGHTS, elect_signs=True, **params).adapter
    ties = compose("ties_delta", three, WEIGHTS, **params).adapter
    assert distance(deltas(elected), deltas(ties)) < 1e-5


def test_another_seed_drops_other_entries(three):
    one, two = (compose("dare_delta", three, seed=seed).adapter for seed in (1, 2))
    assert distance(deltas(one), deltas(two)) > 0.1


def test_della_keeps_large_entries_more_often_and_is_right_on_average():
    rng = np.random.default_rng(0)
    update = rng.normal(size=(4, 50)).astype("f")
    total, stays = np.zeros_like(update), np.zeros_like(update)
    for _ in range(4000):
        kept = drop_small_more(update.copy(), 0.5, 0.3, rng)
        total += kept / 4000
        stays += (kept != 0) / 4000
    np.testing.assert_allclose(total, update, atol=0.15)
    order = np.argsort(np.abs(update), axis=1)
    sorted_stays = np.take_along_axis(stays, order, axis=1)
    np.testing.assert_allclose(sorted_stays, np.tile(np.linspace(0.2, 0.8, 50), (4, 1)), atol=0.04)


def test_della_without_a_window_drops_as_dare_does():
    update = np.random.default_rng(1).normal(size=(6, 9)).astype("f")
    ours = drop_small_more(update.copy(), 0.5, 0.0, np.random.default_rng(2))
    np.testing.assert_array_equal(ours, drop_random(update, 0.5, np.random.default_rng(2)))


def test_a_window_that_leaves_the_range_of_chances_is_refused(three):
    with pytest.raises(InvalidRequest, match="epsilon"):
        compose("della_delta", three, density=0.2, epsilon=0.3)


@pytest.mark.parametrize(("density", "kept"), [(0.05, 5), (0.5, 50), (1.0, 100)])
def test_as_many_entries_are_kept_as_asked_for(density, kept):
    update = np.random.default_rng(3).normal(size=(10, 10))
    assert np.count_nonzero(keep_largest(update.copy(), density)) == kept
    assert np.count_nonzero(keep_middle(update.copy(), density, 0.1)) == kept
    largest_of_middle = np.abs(keep_middle(update.copy(), min(density, 0.9), 0.1)).max()
    assert largest_of_middle == np.sort(np.abs(update), axis=None)[89]


@pytest.mark.parametrize("shape", [(500, 4), (1100, 1000)])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.5, 0.9995, 1.0])
def test_the_least_of_the_largest_is_found_exactly(shape, share):
    rng = np.random.default_rng(7)
    update = (rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)).astype("f")
    update[::3] = update[0]  # many alike
    count = max(1, int(share * update.size))
    sizes = np.sort(np.abs(update), axis=None)[::-1]
    kept = keep_largest(update.copy(), share)
    np.testing.assert_array_equal(kept, np.where(np.abs(update) >= sizes[count - 1], update, 0))


def test_rows_beyond_one_block_are_drawn_and_dropped_as_in_one_go():
    update = np.random.default_rng(5).normal(size=(700, 3)).astype("f")
    kept = np.random.default_rng(6).random(update.shape, dtype=np.float32) < 0.3
    ours = drop_random(update.copy(), 0.3, np.random.default_rng(6))
    np.testing.assert_array_equal(ours, np.where(kept, update / np.float32(0.3), 0))
