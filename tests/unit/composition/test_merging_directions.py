"""Merges that weigh directions, ranks, columns or whole adapters, against independent formulas."""

from dataclasses import replace

import numpy as np
import pytest

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition import compose
from lora_studio.composition.merging.karcher import mean_direction
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.merging.net_utility import directions
from lora_studio.composition.merging.zip_columns import mergers
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance, weighted_sum

WEIGHTS = [1.0, 0.6, -0.4]


@pytest.fixture(scope="module")
def three():
    return [build_adapter(seed, rank=2 + seed, scaling=0.5 * seed) for seed in (1, 2, 3)]


def single(a, b):
    return Adapter({"m": LoraFactors(np.array(a, "f"), np.array(b, "f"))})


def orthogonal(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


# -- pico ------------------------------------------------------------------------------------------


def test_pico_is_its_formula(three):
    merged = deltas(compose("pico", three, WEIGHTS).adapter)
    for name, found in merged.items():
        folded = [a.factors[name].folded() for a in three]
        u, s, _ = np.linalg.svd(np.hstack([m.B for m in folded]).astype(float), False)
        alpha = 1 / (1 + 2 * s**2 / (s**2).sum())
        calm = [m.B + u @ np.diag(alpha - 1) @ u.T @ m.B for m in folded]
        total = sum(w * b @ m.A for w, b, m in zip(WEIGHTS, calm, folded, strict=True))
        own = [abs(w) * np.linalg.norm(m.delta()) for w, m in zip(WEIGHTS, folded, strict=True)]
        expected = total * np.mean(own) / np.linalg.norm(total)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_pico_turns_a_crowded_direction_down_against_one_of_its_own():
    q = orthogonal(6)
    crowd = [single([q[i], q[3 + i]], np.stack([q[0], q[1 + i]], 1)) for i in range(2)]
    plain, calm = (deltas(compose(m, crowd, rank=4).adapter)["m"] for m in ("svd", "pico"))

    def crowded(delta):
        return np.linalg.norm(q[0] @ delta) / np.linalg.norm(q[1:3] @ delta)

    assert crowded(calm) < 0.9 * crowded(plain)


@pytest.mark.parametrize("rule", ["ties", "tsv"])
def test_pico_restores_the_strength_after_any_merge(three, rule):
    merged = compose("pico", three, WEIGHTS, rule=rule).adapter
    for name, module in merged.factors.items():
        own = [abs(w) * a.factors[name].norm() for a, w in zip(three, WEIGHTS, strict=True)]
        assert module.norm() == pytest.approx(np.mean(own), rel=1e-4)


# -- robust_merge ----------------------------------------------------------------------------------


def test_robust_merge_is_its_formula():
    adapters = [build_adapter(seed, rank=5) for seed in (1, 2)]
    merged = compose("robust_merge", adapters, density=0.2).adapter
    for name, module in merged.factors.items():
        parts, scales = [], []
        for factors in (a.factors[name] for a in adapters):
            cut = [
                np.sort(np.abs(f), axis=None)[-int(0.2 * f.size)] for f in (factors.A, factors.B)
            ]
            a, b = (f * (np.abs(f) >= c) for f, c in zip((factors.A, factors.B), cut, strict=True))
            ratio = np.abs(factors.A).sum(1) / np.abs(a).sum(1)
            parts.append((a, b))
            scales.append(np.maximum(ratio, np.sort(ratio)[int(0.8 * 5)]))
        expected_b = sum(s * b for s, (_, b) in zip(scales, parts, strict=True)) / sum(scales)
        np.testing.assert_allclose(module.A, sum(a for a, _ in parts), atol=1e-5)
        np.testing.assert_allclose(module.B, expected_b, atol=1e-5)


# -- net_utility -----------------------------------------------------------------------------------


def test_net_utility_is_what_the_others_lose_taken_from_what_its_owner_gains(three):
    name = next(iter(three[0].factors))
    stack = Stack(name, tuple(a.factors[name] for a in three), tuple(WEIGHTS))
    values, a, b = directions(stack, 0.7)
    np.testing.assert_allclose(b @ a, weighted_sum(three, WEIGHTS)[name], atol=1e-4)
    updates = [w * deltas(x)[name] for x, w in zip(three, WEIGHTS, strict=True)]
    place = 0
    for own, update in enumerate(updates):
        u, s, vt = np.linalg.svd(update)
        for k in range(three[own].factors[name].rank):
            harm = 0.0
            for other, wanted in enumerate(updates):
                if other != own:
                    basis = np.linalg.qr(three[other].factors[name].A.T)[0]
                    seen = np.sum((basis.T @ vt[k]) ** 2)
                    harm += s[k] ** 2 * seen - 2 * s[k] * u[:, k] @ wanted @ vt[k]
            assert values[place] == pytest.approx(s[k] ** 2 - 0.7 * harm, rel=1e-3, abs=1e-3)
            place += 1


def test_a_direction_that_disturbs_another_adapter_goes_first():
    q = orthogonal(8)
    one = single([1.5 * q[0], q[1]], np.stack([q[0], q[1]], 1))  # acts where two acts, elsewhere
    two = single([2.0 * q[0], 2.0 * q[2]], np.stack([q[4], q[5]], 1))
    blind = compose("net_utility", [one, two], rank=3, interference=0.0).adapter
    careful = compose("net_utility", [one, two], rank=3, interference=1.0).adapter
    row = lambda adapter: np.linalg.norm(q[0] @ deltas(adapter)["m"])  # noqa: E731
    assert row(blind) == pytest.approx(1.5, rel=1e-4)
    assert row(careful) < 1e-4


def test_the_rank_goes_to_the_modules_that_need_it():
    small, large = (build_adapter(seed, rank=4, layers=1) for seed in (1, 2))
    quiet, loud = small.factors
    grown = {n: m.scaled(9.0 if n == loud else 1.0) for n, m in small.factors.items()}
    grown = [replace(small, factors=grown), replace(large, factors={
        n: m.scaled(9.0 if n == loud else 1.0) for n, m in large.factors.items()})]  # fmt: skip
    merged = compose("net_utility", grown, rank=3)
    assert merged.adapter.ranks[loud] > merged.adapter.ranks[quiet] >= 1
    assert sum(merged.adapter.ranks.values()) == 6
    assert "6 in all" in merged.notes[0]


# -- zip_columns -----------------------------------------------------------------------------------


def test_column_mergers_minimise_what_they_are_said_to_minimise(three):
    name = next(iter(three[0].factors))
    folded = [a.factors[name].scaled(w).folded() for a, w in zip(three, WEIGHTS, strict=True)]
    owner = np.repeat([0, 1, 2], [m.rank for m in folded])
    a, b = np.vstack([m.A for m in folded]), np.hstack([m.B for m in folded])
    m = mergers(a.astype(float), b.astype(float), owner, 1.5)
    columns = np.stack([x.delta().astype(float) for x in folded])  # (T, d_out, d_in)

    def loss(m):
        own = ((m - 1) ** 2 * (columns**2).sum(1)).sum()
        pairs = [(0, 1), (0, 2), (1, 2)]
        return own + 1.5 / 2 * sum(
            (m[s] * m[t] * np.abs((columns[s] * columns[t]).sum(0))).sum() for s, t in pairs
        )

    rng = np.random.default_rng(0)
    assert all(loss(m) < loss(m + 0.01 * rng.normal(size=m.shape)) for _ in range(20))
    merged = deltas(compose("zip_columns", three, WEIGHTS, apart=1.5).adapter)[name]
    np.testing.assert_allclose(merged, (columns * m[:, None]).sum(0), atol=1e-4)


def test_columns_nobody_else_changes_are_left_alone_and_copies_turned_down():
    a = np.eye(4)
    one, two = single(a[:2], a[:, :2]), single(a[2:], a[:, 2:])
    apart = compose("zip_columns", [one, two]).adapter
    assert distance(deltas(apart), weighted_sum([one, two], [1, 1])) < 1e-6
    twice = deltas(compose("zip_columns", [one, one], apart=1.0).adapter)["m"]
    np.testing.assert_allclose(twice, 4 / 3 * deltas(one)["m"], atol=1e-6)


# -- slerp, karcher --------------------------------------------------------------------------------


def by_arc(one, two, t):
    norms = np.linalg.norm(one), np.linalg.norm(two)
    theta = np.arccos(np.sum(one * two) / norms[0] / norms[1])
    unit = np.sin((1 - t) * theta) * one / norms[0] + np.sin(t * theta) * two / norms[1]
    return unit / np.sin(theta) * ((1 - t) * norms[0] + t * norms[1])


@pytest.mark.parametrize("method", ["slerp", "karcher"])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [3.0, 1.0], [1.0, -2.0]])
def test_two_adapters_meet_on_the_arc_between_them(three, method, weights):
    merged = deltas(compose(method, three[:2], weights).adapter)
    signs, share = np.sign(weights), abs(weights[1]) / sum(map(abs, weights))
    for name, found in merged.items():
        one, two = (s * deltas(a)[name] for s, a in zip(signs, three, strict=False))
        np.testing.assert_allclose(found, by_arc(one, two, share), atol=1e-4)


def test_on_the_sphere_a_module_that_one_adapter_lacks_is_pulled_to_zero(three):
    name = next(iter(three[0].factors))
    rest = {n: m for n, m in three[1].factors.items() if n != name}
    merged = compose("slerp", [three[0], replace(three[1], factors=rest)], [1.0, 3.0]).adapter
    np.testing.assert_allclose(deltas(merged)[name], 0.25 * deltas(three[0])[name], atol=1e-5)


def test_slerp_of_three_is_refused_with_the_way_out(three):
    with pytest.raises(InvalidRequest, match=r"3 take part.*karcher"):
        compose("slerp", three)
    assert compose("slerp", three, [1.0, 0.0, 1.0]).adapter.max_rank > 0


@pytest.mark.parametrize("method", ["slerp", "karcher"])
def test_opposites_have_no_mean_and_are_refused(three, method):
    with pytest.raises(InvalidRequest, match="task_arithmetic"):
        compose(method, [three[0], three[0]], [1.0, -1.0])


def test_the_karcher_mean_has_no_pull_left_and_keeps_the_strength(three):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, 9))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    x = mean_direction(points @ points.T, shares) @ points
    assert np.linalg.norm(x) == pytest.approx(1.0)
    angles = np.arccos(points @ x)
    logs = (points - np.outer(points @ x, x)) * (angles / np.sin(angles))[:, None]
    np.testing.assert_allclose(shares @ logs, 0, atol=1e-7)
    merged = compose("karcher", three, WEIGHTS).adapter
    for name, module in merged.factors.items():
        norms = [a.factors[name].norm() for a in three]
        assert module.norm() == pytest.approx(np.dot(np.abs(WEIGHTS), norms) / 2, rel=1e-4)


# -- lora_fair, shared_factor ----------------------------------------------------------------------


def test_lora_fair_is_the_ridge_solution(three):
    merged = compose("lora_fair", three, WEIGHTS, damping=0.1).adapter
    total = weighted_sum(three, WEIGHTS)
    for name, module in merged.factors.items():
        folded = [a.factors[name].folded() for a in three]
        pad = [5 - m.rank for m in folded]
        a = (
            sum(
                abs(w) * np.pad(m.A, ((0, p), (0, 0)))
                for w, m, p in zip(WEIGHTS, folded, pad, strict=True)
            )
            / 2
        )
        b = sum(
            w * np.pad(m.B, ((0, 0), (0, p))) for w, m, p in zip(WEIGHTS, folded, pad, strict=True)
        )
        held = 0.1 * np.mean(np.diag(a @ a.T))
        stacked = np.hstack([a, np.sqrt(held) * np.eye(5)])
        wanted = np.hstack([total[name] - b @ a, np.zeros((len(b), 5))])
        more = np.linalg.lstsq(stacked.T, wanted.T, rcond=None)[0].T
        np.testing.assert_allclose(module.A, a, atol=1e-5)
        np.testing.assert_allclose(module.B, b + more, atol=1e-3)


def test_lora_fair_is_nearer_to_the_sum_than_separate_averages(three):
    total = weighted_sum(three, [1, 1, 1])
    fair, linear = (compose(m, three).adapter for m in ("lora_fair", "linear"))
    assert distance(deltas(fair), total) < 0.8 < distance(deltas(linear), total)
    best = compose("svd", three, rank=5).adapter
    assert distance(deltas(best), total) < distance(deltas(fair), total)


def around(shared, seeds=(1, 2, 3)):
    """Adapters with the A, the B or both sides in common, up to what a trainer may do to them."""
    common = build_adapter(9, rank=4)
    found = []
    for seed in seeds:
        own, rng = build_adapter(seed, rank=4, scaling=seed), np.random.default_rng(seed)
        factors = {}
        for name, m in own.factors.items():
            a, b = common.factors[name].A, common.factors[name].B
            core = rng.normal(size=(4, 4)).astype("f")
            sides = {"A": (a, m.B), "B": (m.A, b), "both": (core @ a, b)}[shared]
            factors[name] = replace(m, A=sides[0], B=sides[1])
        found.append(replace(own, factors=factors))
    return found


@pytest.mark.parametrize("shared", ["A", "B", "both"])
def test_what_is_shared_is_summed_exactly_without_more_rank(shared):
    adapters = around(shared)
    merged = compose("shared_factor", adapters, WEIGHTS).adapter
    assert distance(deltas(merged), weighted_sum(adapters, WEIGHTS)) < 1e-5
    assert merged.max_rank == 4
    name = next(iter(merged.factors))
    if shared == "A":
        np.testing.assert_array_equal(merged.factors[name].A, adapters[0].factors[name].A)
    if shared == "B":
        np.testing.assert_array_equal(merged.factors[name].B, adapters[0].factors[name].B)


def test_strangers_share_no_factor_and_are_told_so(three):
    with pytest.raises(IncompatibleAdapters, match=r"shares neither A nor B.*cat"):
        compose("shared_factor", three)
