"""The formulas of what LEGO may do beyond the paper."""

import numpy as np
import pytest

from lora_studio.adapter import LoraFactors
from lora_studio.rank_units import cluster, pool_units
from lora_studio.rank_units.apart import cluster_apart, without_copies
from lora_studio.rank_units.centroid import centroids
from lora_studio.rank_units.cluster import Clustering, cluster_gram
from lora_studio.rank_units.counts import Curve, curve, elbow, shared_out
from lora_studio.rank_units.unit import factored_svd


def factors(seed, rank=6, d_in=30, d_out=20):
    rng = np.random.default_rng(seed)
    return LoraFactors(
        rng.normal(size=(rank, d_in)).astype("f"), rng.normal(size=(d_out, rank)).astype("f")
    )


def one_cluster(pool):
    return Clustering(np.zeros(len(pool), int), np.ones(len(pool)), 0.0)


def test_the_mean_centroid_is_the_mean_at_the_mean_length():
    pool = pool_units([factors(1), factors(2)])
    a, b = centroids(pool, one_cluster(pool), "mean", "l2")
    points = np.concatenate([pool.A, pool.B], axis=1)
    mean = points.mean(0)
    expected = mean * np.linalg.norm(points, axis=1).mean() / np.linalg.norm(mean)
    np.testing.assert_allclose(np.concatenate([a, b], axis=1)[0], expected, rtol=1e-4)


def test_the_rank_one_centroid_is_the_leading_singular_pair_of_the_mean_update():
    pool = pool_units([factors(1), factors(2)], [1.0, 3.0])
    a, b = centroids(pool, one_cluster(pool), "rank_one", "l2")
    mean = np.einsum("n,no,ni->oi", pool.mass / pool.mass.sum(), pool.B, pool.A)
    u, _, vt = np.linalg.svd(mean)
    size = np.linalg.norm(pool.A, axis=1) * np.linalg.norm(pool.B, axis=1)
    expected = np.average(size, weights=pool.mass) * pool.mass.mean() * np.outer(u[:, 0], vt[0])
    np.testing.assert_allclose(np.outer(b[0], a[0]), expected, atol=2e-3 * np.abs(expected).max())


def test_the_rank_one_centroid_knows_neither_sign_nor_scale_of_units():
    source, rng = factors(1), np.random.default_rng(0)
    turn = rng.choice([-1, 1], 6) * rng.uniform(0.3, 3, 6)
    same = LoraFactors(
        (source.A * turn[:, None]).astype("f"), (source.B / turn[None, :]).astype("f")
    )
    found = []
    for module in (source, same):
        pool = pool_units([module])
        a, b = centroids(pool, one_cluster(pool), "rank_one", "l2")
        found.append(np.outer(b[0], a[0]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("centroid", ["mean", "rank_one"])
@pytest.mark.parametrize("norm", ["inf", "l2"])
def test_copies_at_weights_give_their_mean_weight_times_the_adapter(centroid, norm):
    source = factors(1)
    pool = pool_units([source, source, source], [2.0, 1.0, 0.3])
    a, b = centroids(pool, cluster(pool, 6), centroid, norm)
    np.testing.assert_allclose(b.T @ a, 1.1 * source.delta(), atol=1e-4)


def test_a_heavier_unit_pulls_its_centre_in_proportion():
    pool = pool_units([factors(1, rank=1), factors(2, rank=1)], [3.0, 1.0])
    a, b = centroids(pool, one_cluster(pool), "mean", "l2")
    points = np.concatenate([pool.A, pool.B], axis=1)
    mean = (3 * points[0] + points[1]) / 4
    cosine = mean @ np.concatenate([a, b], axis=1)[0]
    assert cosine == pytest.approx(
        np.linalg.norm(mean) * np.linalg.norm(np.concatenate([a, b], axis=1)), rel=1e-5
    )


def test_mass_counts_like_copies_of_a_point():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 5))
    mass = rng.integers(1, 4, 12)
    weighted = cluster_gram(points @ points.T, 3, mass=mass.astype(float))
    many = np.repeat(points, mass, axis=0)
    centres = [np.average(points[weighted.labels == c], 0, mass[weighted.labels == c])
               for c in range(3)]  # fmt: skip
    spread = ((many - np.array(centres)[np.repeat(weighted.labels, mass)]) ** 2).sum()
    assert weighted.inertia == pytest.approx(spread)
    nearest = ((points[:, None] - np.array(centres)) ** 2).sum(2).argmin(1)
    assert (nearest == weighted.labels).all()


@pytest.mark.parametrize("gauge", ["raw", "balanced"])
@pytest.mark.parametrize("k", [6, 9])
def test_apart_no_cluster_has_two_units_of_one_adapter(gauge, k):
    pool = pool_units([factors(1), factors(2), factors(3, rank=4)], gauge=gauge)
    found = cluster_apart(pool, k)
    pairs = set(zip(pool.owner.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == len(pool)
    assert 6 <= found.k <= k


def test_apart_copies_still_find_each_other():
    source = factors(1)
    order = np.random.default_rng(0).permutation(6)
    copy = LoraFactors(source.A[order], source.B[:, order])
    found = cluster_apart(pool_units([source, copy]), 6)
    assert (found.labels[:6][order] == found.labels[6:]).all()
    assert found.inertia == pytest.approx(0.0, abs=1e-3)


def test_near_copies_are_one_unit_at_their_mean_mass():
    source = factors(1)
    noise = 0.02 * factors(9).A
    near = LoraFactors(-(source.A + noise).astype("f"), (-source.B).astype("f"))
    pool = without_copies(pool_units([source, near, factors(2)], [1.0, 0.4, 1.0]), 0.9)
    assert len(pool) == 12
    assert sorted(pool.mass.tolist()) == pytest.approx([0.7] * 6 + [1.0] * 6)
    opposed = LoraFactors(-source.A, source.B)
    assert len(without_copies(pool_units([source, opposed]), 0.9)) == 12


def test_the_elbow_is_found_where_the_groups_are_and_shown():
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(4, 50))
    curves = {}
    for name in ("a", "b"):
        rows = np.concatenate([centres + 0.1 * rng.normal(size=(4, 50)) for _ in range(6)])
        module = LoraFactors(rows.astype("f"), np.zeros((5, 24), "f"))
        curves[name] = curve(pool_units([module]))
    k, evidence = elbow(curves)
    assert k in (4, 5)
    assert f"Rank {k} was chosen" in evidence
    assert "1: 100%" in evidence
    assert "24: 0%" in evidence


def test_a_curve_never_rises_and_ends_at_nothing():
    found = curve(pool_units([factors(1), factors(2)]))
    assert found.ks[0] == 1
    assert found.ks[-1] == 12
    assert (np.diff(found.inertia) <= 0).all()
    assert found.inertia[-1] == 0


def test_clusters_go_where_they_take_away_the_largest_share():
    steep = Curve(np.array([1, 2, 4]), np.array([100.0, 40.0, 0.0]))
    flat = Curve(np.array([1, 2, 4]), np.array([10.0, 9.0, 0.0]))
    assert shared_out({"steep": steep, "flat": flat}, 3) == {"steep": 2, "flat": 1}
    assert shared_out({"steep": steep, "flat": flat}, 5) == {"steep": 2, "flat": 3}
    assert shared_out({"steep": steep, "flat": flat}, 99) == {"steep": 4, "flat": 4}
    assert shared_out({"steep": steep, "flat": flat}, 0) == {"steep": 1, "flat": 1}


def test_long_factors_are_decomposed_as_exactly_as_short_ones():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 300)), rng.normal(size=(400, 6))
    a[1] = a[0] + 1e-3 * a[1]
    a[2] *= 1e-7
    b[:, 2] *= 1e7
    b[:, 3] = 0
    u, s, vt = factored_svd(a, b)
    np.testing.assert_allclose(u * s @ vt, b @ a, atol=1e-8 * s[0])
    np.testing.assert_allclose(s[:5], np.linalg.svd(b @ a)[1][:5], rtol=1e-6)
    np.testing.assert_allclose(u[:, :5].T @ u[:, :5], np.eye(5), atol=1e-7)
