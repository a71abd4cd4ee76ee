import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from lora_studio.adapter import LoraFactors
from lora_studio.rank_units import cluster, layout, pool_units, shared_seed_score
from lora_studio.rank_units.cluster import cluster_gram, gram_coordinates
from lora_studio.rank_units.unit import factored_svd


def factors(seed, rank=6, d_in=30, d_out=20):
    rng = np.random.default_rng(seed)
    return LoraFactors(
        rng.normal(size=(rank, d_in)).astype("f"), rng.normal(size=(d_out, rank)).astype("f")
    )


def points(pool):
    return np.concatenate([pool.A, pool.B], axis=1).astype(np.float64)


def test_gram_coordinates_keep_every_inner_product():
    pool = pool_units([factors(1), factors(2)])
    coordinates = gram_coordinates(pool.gram())
    np.testing.assert_allclose(coordinates @ coordinates.T, pool.gram(), atol=1e-6)


@pytest.mark.parametrize("k", [2, 5, 9])
def test_gram_labels_equal_labels_of_the_points_themselves(k):
    pool = pool_units([factors(1), factors(2), factors(3)])
    ours = cluster(pool, k, seed=3)
    direct = cluster_gram(points(pool) @ points(pool).T, k, seed=3)
    assert adjusted_rand_score(ours.labels, direct.labels) == 1.0
    assert ours.inertia == pytest.approx(direct.inertia, rel=1e-6)


def test_lloyd_ends_where_scikit_learn_ends_from_the_same_centres():
    pool = pool_units([factors(i) for i in range(5)])
    ours = cluster(pool, 7, seed=0)
    x = points(pool)
    centres = np.stack([x[ours.labels == c].mean(0) for c in range(7)])
    theirs = KMeans(7, init=centres, n_init=1).fit(x)
    assert adjusted_rand_score(ours.labels, theirs.labels_) == 1.0
    assert theirs.inertia_ == pytest.approx(ours.inertia, rel=1e-5)


def test_copies_of_units_find_each_other_whatever_their_sign_and_scale():
    source = factors(1)
    rng = np.random.default_rng(0)
    order, sign = rng.permutation(6), rng.choice([-1, 1], 6)
    size = rng.uniform(0.3, 3, 6)
    copy = LoraFactors(
        (source.A * (sign * size)[:, None])[order].astype("f"),
        (source.B * (sign / size)[None, :])[:, order].astype("f"),
    )
    pool = pool_units([source, copy], gauge="balanced")
    found = cluster(pool, 6)
    assert (found.labels[:6][order] == found.labels[6:]).all()
    met = points(pool) * found.signs[:, None]
    np.testing.assert_allclose(met[:6][order], met[6:], atol=1e-5)


def test_no_cluster_is_empty_even_when_points_coincide():
    source = factors(1, rank=3)
    found = cluster(pool_units([source, source, source]), 5)
    assert np.bincount(found.labels, minlength=5).min() >= 1


def test_the_order_of_adapters_changes_nothing():
    a, b = factors(1), factors(2)
    one, two = cluster(pool_units([a, b]), 4), cluster(pool_units([b, a]), 4)
    assert adjusted_rand_score(one.labels, np.roll(two.labels, 6)) == 1.0


def test_factored_svd_is_the_svd():
    a, b = factors(1).A, factors(1).B
    u, s, vt = factored_svd(a, b)
    np.testing.assert_allclose(u * s @ vt, b @ a, atol=1e-4)
    np.testing.assert_allclose(s, np.linalg.svd(b @ a)[1][:6], rtol=1e-5)


def test_the_svd_basis_does_not_see_a_rotation_of_the_rank_space():
    source = factors(1)
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))
    turned = LoraFactors((q @ source.A).astype("f"), (source.B @ q.T).astype("f"))
    left, right = pool_units([source], basis="svd"), pool_units([turned], basis="svd")
    for a, b, c, d in zip(left.A, left.B, right.A, right.B, strict=True):
        np.testing.assert_allclose(np.outer(b, a), np.outer(d, c), atol=1e-3)


def test_layout_lies_in_the_unit_square_and_explains_at_most_everything():
    pool = pool_units([factors(1), factors(2)])
    places, explained = layout(pool, cluster(pool, 4))
    assert places.shape == (12, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    assert 0 < explained <= 1


def test_a_shared_initial_a_is_noticed():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(8, 40))

    def trained(seed):
        step = 0.2 * np.random.default_rng(seed).normal(size=start.shape)
        b = np.random.default_rng(seed).normal(size=(20, 8))
        return LoraFactors((start + step).astype("f"), b.astype("f"))

    assert shared_seed_score([trained(1), trained(2), trained(3)]) > 0.6
    assert shared_seed_score([factors(1), factors(2), factors(3)]) < 0.15
