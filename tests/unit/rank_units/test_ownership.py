"""Whose the units of a result are, and where they lie among those of the sources."""

from dataclasses import replace

import numpy as np
import pytest

from lora_studio.composition import Merged, compose
from lora_studio.composition.shares import packed, unpacked
from lora_studio.rank_units import cluster, joined, layout, ownership, pool_units
from tests.conftest import build_adapter

NAME = "model.layers.0.self_attn.q_proj"


def sources(*seeds):
    return [build_adapter(seed) for seed in seeds]


def merged(method, adapters, weights=None, **params):
    plan = compose(method, adapters, weights, **params)
    assert isinstance(plan, Merged)
    return plan


def shares(result, adapters):
    module = result.factors[NAME]
    return ownership(module.A, module.B.T, [a.factors.get(NAME) for a in adapters])


def test_the_units_of_a_concatenation_belong_to_the_adapter_they_came_from():
    one, two = sources(1, 2)
    found = shares(merged("cat", [one, two]).adapter, [one, two])
    rank = one.factors[NAME].rank
    owner = found.argmax(0)
    assert sorted(owner) == [0] * rank + [1] * rank
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (np.sort(found, 0)[1] > 0.5).all()


def test_directions_that_recombine_one_adapter_are_all_its_own():
    (one,) = sources(1)
    turned = merged("svd", [one]).adapter
    np.testing.assert_allclose(shares(turned, [one]), 1, atol=1e-5)


def test_what_no_source_reads_or_writes_is_nobodys():
    one, other = sources(1, 9)
    found = shares(other, [one])
    assert (found < 0.9).all()
    assert (found >= 0).all()


def test_twins_own_alike_and_an_adapter_without_the_module_nothing():
    (one,) = sources(1)
    without = replace(one, factors={n: m for n, m in one.factors.items() if n != NAME})
    found = shares(one, [one, one, without])
    np.testing.assert_allclose(found[:2], 0.5, atol=1e-5)
    assert (found[2] == 0).all()


def test_lego_says_whose_its_clusters_are():
    one, two = sources(1, 2)
    plan = merged("lego", [two, one], [1.0, 0.5], rank=3)
    found = plan.shares[NAME]
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    swapped = merged("lego", [one, two], [0.5, 1.0], rank=3).shares[NAME]
    np.testing.assert_array_equal(found, swapped[::-1])
    same = merged("lego", [one, one], rank=one.factors[NAME].rank).shares[NAME]
    np.testing.assert_allclose(same, 0.5, atol=1e-5)


def test_shares_survive_being_kept_and_those_of_another_adapter_are_refused():
    given = {"b": np.array([[0.25, 1.0], [0.75, 0.0]], np.float32)}
    ranks = {"a": 3, "b": 2}
    text = packed(given, ranks, 2)
    found = unpacked(text, ranks, 2)
    assert set(found) == {"b"}
    np.testing.assert_allclose(found["b"], given["b"], atol=0.5 / 255)
    assert unpacked(text, ranks, 3) == {}
    assert unpacked("no base64!", ranks, 2) == {}
    assert packed({}, ranks, 2) == ""


@pytest.mark.parametrize("gauge", ["raw", "balanced"])
def test_a_unit_that_joins_does_not_move_the_others(gauge):
    one, two = (a.factors[NAME] for a in sources(1, 2))
    pool = pool_units([one, two], gauge=gauge)
    found = cluster(pool, 3)
    whole = pool_units([one, two, replace(one, A=-one.A, B=-one.B)], gauge=gauge)
    more = joined(whole, found)
    np.testing.assert_array_equal(more.labels[: len(pool)], found.labels)
    if gauge == "balanced":  # the same update as one's, so in the same clusters
        np.testing.assert_array_equal(more.labels[len(pool) :], found.labels[: one.rank])
    alone, _ = layout(pool, found)
    among, _ = layout(whole, more, len(pool))

    def gaps(places):
        return np.linalg.norm(places[:, None] - places[None], axis=-1)

    before, after = gaps(alone), gaps(among[: len(pool)])
    np.testing.assert_allclose(after / after.max(), before / before.max(), atol=1e-6)
