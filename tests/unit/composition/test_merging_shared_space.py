"""Merges in common coordinates, against independent dense computations and known answers."""

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition import compose
from lora_studio.composition.merging.core_space import core_of, polar
from lora_studio.composition.merging.ctm import common_bases
from lora_studio.composition.merging.modules import Stack
from tests.conftest import build_adapter
from tests.deltas import deltas, distance, weighted_sum

WEIGHTS = [1.0, 0.6, -0.4]
CORE = ["core_ties", "core_iso", "core_tsv", "knots", "iso_c", "tsv_m", "ctm"]


@pytest.fixture(scope="module")
def three():
    return [build_adapter(seed, rank=2 + seed, scaling=0.5 * seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def alike():
    return [build_adapter(seed, rank=3, scaling=0.5 * seed) for seed in (1, 2, 3)]


def dense(adapters, join):
    """Module -> join of (weighted updates, folded A, folded B) of all adapters."""
    found = {}
    for name in adapters[0].factors:
        folded = [a.factors[name].folded() for a in adapters]
        updates = [w * m.delta().astype(float) for m, w in zip(folded, WEIGHTS, strict=True)]
        found[name] = join(updates, [m.A for m in folded], [m.B for m in folded])
    return found


def ties(parts, density=0.5):
    kept = []
    for x in parts:
        order = np.argsort(-np.abs(x), axis=None)
        mask = np.zeros(x.size)
        mask[order[: int(density * x.size)]] = 1
        kept.append(x * mask.reshape(x.shape))
    kept = np.stack(kept)
    agrees = (np.sign(kept) == np.sign(kept.sum(0))) & (kept != 0)
    return (kept * agrees).sum(0) / np.maximum(agrees.sum(0), 1)


def in_core(updates, a, b):
    u = np.linalg.svd(np.hstack(b).astype(float), full_matrices=False)[0]
    v = np.linalg.svd(np.vstack(a).astype(float), full_matrices=False)[2].T
    return u, [u.T @ d @ v for d in updates], v


def core_ties(updates, a, b):
    u, cores, v = in_core(updates, a, b)
    return u @ ties(cores) @ v.T


def core_iso(updates, a, b):
    u, cores, v = in_core(updates, a, b)
    x, s, yt = np.linalg.svd(sum(cores))
    return u @ (x @ np.diag(np.full_like(s, s.mean())) @ yt) @ v.T


def iso_c(updates, a, b):
    x, s, yt = np.linalg.svd(sum(updates), full_matrices=False)
    own = s > 1e-6
    return s.mean() * x[:, own] @ yt[own]


def tsv_m(updates, a, b):
    parts = [np.linalg.svd(d, full_matrices=False) for d in updates]
    most = [min(min(d.shape) // len(updates), len(m)) for d, m in zip(updates, a, strict=True)]
    u = np.hstack([x[:, :k] for (x, _, _), k in zip(parts, most, strict=True)])
    v = np.hstack([yt[:k].T for (_, _, yt), k in zip(parts, most, strict=True)])
    s = np.concatenate([s[:k] for (_, s, _), k in zip(parts, most, strict=True)])
    (xu, _, yu), (xv, _, yv) = (np.linalg.svd(m, full_matrices=False) for m in (u, v))
    return (xu @ yu) @ np.diag(s) @ (xv @ yv).T


def knots(updates, a, b):
    plain = [d / w for d, w in zip(updates, WEIGHTS, strict=True)]
    u, s, vt = np.linalg.svd(np.hstack(plain), full_matrices=False)
    own = s > 1e-5
    parts = np.split((s[:, None] * vt)[own], len(updates), axis=1)
    return u[:, own] @ ties([w * p for w, p in zip(WEIGHTS, parts, strict=True)])


@pytest.mark.parametrize("formula", [core_ties, core_iso, iso_c, tsv_m, knots])
def test_the_factored_form_is_the_dense_formula(three, formula):
    merged = compose(formula.__name__, three, WEIGHTS).adapter
    assert distance(deltas(merged), dense(three, formula)) < 1e-5


def test_core_space_loses_nothing_of_any_adapter(three):
    for name in three[0].factors:
        stack = Stack(name, tuple(a.factors[name] for a in three), tuple(WEIGHTS))
        core = core_of(stack)
        for adapter, weight, small in zip(three, WEIGHTS, core.cores, strict=True):
            whole = core.u @ small @ core.v.T
            np.testing.assert_allclose(whole, weight * deltas(adapter)[name], atol=1e-5)


def test_adding_in_core_space_is_adding(three):
    name = next(iter(three[0].factors))
    core = core_of(Stack(name, tuple(a.factors[name] for a in three), tuple(WEIGHTS)))
    a, b = core.spectrum(core.total).cut(99)
    np.testing.assert_allclose(b @ a, weighted_sum(three, WEIGHTS)[name], atol=1e-4)


def test_core_tsv_is_tsv_where_all_ranks_are_one(alike):
    one, two = (compose(m, alike, WEIGHTS).adapter for m in ("core_tsv", "tsv_m"))
    assert distance(deltas(one), deltas(two)) < 1e-5


def test_core_tsv_takes_as_many_directions_of_each(three):
    assert compose("core_tsv", three, WEIGHTS).adapter.max_rank == 3 * (3 + 4 + 5) // 3


def test_ties_in_core_space_depends_on_the_axes_so_the_svd_s_are_used(three):
    def qr_axes(updates, a, b):
        u, v = np.linalg.qr(np.hstack(b))[0], np.linalg.qr(np.vstack(a).T)[0]
        return u @ ties([u.T @ d @ v for d in updates]) @ v.T

    ours = deltas(compose("core_ties", three, WEIGHTS).adapter)
    assert distance(dense(three, qr_axes), ours) > 0.3


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("core_tsv", {}),
        ("tsv_m", {}),
        ("core_ties", {"density": 1.0}),
        ("knots", {"density": 1.0}),
    ],
)
def test_copies_of_an_adapter_are_the_adapter(method, params):
    adapter = build_adapter(1, rank=4)
    merged = compose(method, [adapter, adapter, adapter], **params).adapter
    assert distance(deltas(merged), deltas(adapter)) < 1e-5


def test_polar_of_columns_that_coincide_shares_one_direction():
    column = np.array([[3.0], [4.0]]) / 5
    np.testing.assert_allclose(polar(np.hstack([column, column])), np.hstack([column] * 2) / 2**0.5)


def planted(norms, shared, seed=0, width=256, rank=16):
    """Adapters of one module with given norms, which do different things in partly one subspace."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(2, rank, width))
    found = []
    for norm in norms:
        own = rng.normal(size=(2, rank, width))
        own[:, : int(shared * rank)] = common[:, : int(shared * rank)]
        own = np.linalg.qr(rng.normal(size=(2, rank, rank)))[0] @ own
        module = LoraFactors(own[0].astype("f"), own[1].T.astype("f"))
        scaled = module.scaled(norm / module.norm())
        found.append(Adapter({"m": scaled}, AdapterCard(base_model="wide")))
    return found


def least_kept(merged, adapters):
    """Smallest share of an adapter's norm inside the row and column spaces of the result."""
    u = np.linalg.qr(merged.factors["m"].B)[0]
    v = np.linalg.qr(merged.factors["m"].A.T)[0]
    kept = [
        np.linalg.norm(u.T @ d @ v) / np.linalg.norm(d) for d in (deltas(a)["m"] for a in adapters)
    ]
    return min(kept)


@pytest.mark.parametrize(("norms", "shared"), [(np.geomspace(1, 10, 6), 0.5), (np.ones(6), 0.0)])
def test_compressing_first_keeps_most_of_the_adapter_that_is_kept_worst(norms, shared):
    adapters = planted(norms, shared)
    kept = {
        method: least_kept(compose(method, adapters, rank=16).adapter, adapters)
        for method in ("ctm", "svd", "core_ties", "lego")
    }
    assert kept["ctm"] > 0.4
    assert all(kept["ctm"] > kept[other] + 0.02 for other in ("svd", "core_ties", "lego"))


def test_the_bases_of_ctm_are_a_fixed_point_that_keeps_more_than_hosvd():
    rng = np.random.default_rng(1)
    cores = [rng.normal(size=(12, 10)) for _ in range(4)]
    u, v = common_bases(cores, 3, loud=1.0)
    np.testing.assert_allclose(u.T @ u, np.eye(3), atol=1e-9)
    kept = np.linalg.norm([u.T @ c @ v for c in cores])
    again = np.linalg.svd(np.hstack([c @ v for c in cores]))[0][:, :3]
    assert np.linalg.norm([again.T @ c @ v for c in cores]) <= kept * (1 + 1e-5)
    hosvd = [np.linalg.svd(np.hstack(side))[0][:, :3] for side in (cores, [c.T for c in cores])]
    assert kept >= np.linalg.norm([hosvd[0].T @ c @ hosvd[1] for c in cores])


def test_ctm_with_room_for_everything_and_sums_is_the_sum(three):
    merged = compose("ctm", three, WEIGHTS, rank=20, rule="sum").adapter
    assert distance(deltas(merged), weighted_sum(three, WEIGHTS)) < 1e-5
    assert compose("ctm", three, WEIGHTS, rank=5).adapter.max_rank == 5


def test_a_loud_adapter_takes_less_of_the_bases_where_sizes_are_evened():
    adapters = planted([1.0, 30.0], 0.0)
    kept = {
        loud: least_kept(compose("ctm", adapters, loud=loud, rank=16).adapter, adapters)
        for loud in (0.0, 1.0)
    }
    assert kept[0.0] > kept[1.0] + 0.2
