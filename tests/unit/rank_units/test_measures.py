"""The figures of a report card, against dense arithmetic; and sketches, against true cosines."""

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.rank_units.measures import effective_rank, measure, sentences, weights_hash
from lora_studio.rank_units.sketch import SIZE, pack, sketch, unpack

NAMES = [f"model.layers.{n}.self_attn.{leaf}" for n in range(3) for leaf in ("q_proj", "v_proj")]


def adapter(seed, rank=4, names=NAMES, d_out=20, d_in=24, **card):
    rng = np.random.default_rng(seed)
    factors = {
        name: LoraFactors(
            rng.normal(size=(rank, d_in)).astype(np.float32),
            rng.normal(size=(d_out, rank)).astype(np.float32),
        )
        for name in names
    }
    return Adapter(factors, AdapterCard(**card))


def changed(source, change):
    return Adapter({name: change(name, module) for name, module in source.factors.items()})


def dense(source):
    return np.concatenate([m.delta().astype(np.float64).ravel() for m in source.factors.values()])


def cosine(one, two):
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


@pytest.mark.parametrize("seed", range(3))
def test_the_effective_rank_is_that_of_the_singular_values(seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(6, 24)).astype(np.float32) * np.float32([[9], [3], [1], [1], [0.1], [0]])
    module = LoraFactors(a, rng.normal(size=(20, 6)).astype(np.float32))
    s = np.linalg.svd(module.delta(), compute_uv=False).astype(np.float64)
    assert effective_rank(module) == pytest.approx((s**2).sum() ** 2 / (s**4).sum(), rel=1e-5)


def test_equal_orthogonal_directions_all_count_and_tiny_ones_do_not_overflow():
    eye = np.eye(5, 12, dtype=np.float32)
    assert effective_rank(LoraFactors(eye, eye[:, :9].T)) == pytest.approx(5)
    assert effective_rank(LoraFactors(eye * 1e-30, eye[:, :9].T * 1e30)) == pytest.approx(5)


def test_idle_units_are_counted():
    source = adapter(0)
    module = source.factors[NAMES[0]]
    a, b = module.A.copy(), module.B.copy()
    a[1], b[:, 2] = 0, b[:, 2] * 1e-7
    factors = dict(source.factors) | {NAMES[0]: LoraFactors(a, b)}
    told = measure(Adapter(factors))
    assert (told["units"], told["zero_units"], told["dead_units"]) == (24, 1, 1)
    assert any("2 of 24 rank-one units do nothing" in line for line in sentences(told))


def test_an_adapter_of_zeros_has_a_card_too():
    nothing = changed(adapter(0), lambda name, m: LoraFactors(m.A, m.B * 0))
    told = measure(nothing)
    assert (told["zero_units"], told["effective_rank"], told["sketch"]) == (24, [], "")
    assert sentences(told)


def test_counts_spreads_and_alphas():
    source = adapter(0)
    scaled = changed(source, lambda name, m: m.scaled(0.5 if "q_proj" in name else 2.0))
    told = measure(scaled, dict.fromkeys(NAMES, 4))
    assert told["ranks"] == [[4, 6]]
    assert told["layers"] == {"q_proj": 3, "v_proj": 3}
    assert told["kinds"] == {"linear": 6}
    assert told["alpha"] == [2.0, 5.0, 8.0]
    assert not told["alpha_is_rank"]
    norms = sorted(module.norm() for module in scaled.factors.values())
    assert told["norm"] == pytest.approx([norms[0], np.median(norms), norms[-1]], rel=1e-5)
    assert measure(source, dict.fromkeys(NAMES, 4))["alpha_is_rank"]
    assert "alpha" not in measure(source)


def test_the_hash_is_of_the_weights_whatever_the_base_is_called():
    here, there = adapter(0, base_model="a/b"), adapter(0, base_model="c/d")
    assert here.id != there.id
    assert weights_hash(here) == weights_hash(there) != weights_hash(adapter(1))


@pytest.mark.parametrize("seed", range(4))
def test_a_sketch_does_not_see_basis_rank_sign_or_scaling(seed):
    rng = np.random.default_rng(seed)
    source = adapter(seed)

    def other_factors(name, m):
        mix = rng.normal(size=(4, 4))
        a, b = np.linalg.inv(mix) @ m.A, m.B @ mix  # the same product in another basis
        a = np.concatenate([a, np.zeros((3, m.d_in))])  # and of a larger rank
        b = np.concatenate([b, rng.normal(size=(m.d_out, 3))], axis=1)
        return LoraFactors(a.astype(np.float32), (b / 8).astype(np.float32), scaling=8.0)

    same = changed(source, other_factors)
    assert cosine(dense(source), dense(same)) > 0.999999
    assert sketch(source) @ sketch(same) > 0.9999
    assert sketch(source) @ sketch(changed(source, lambda _, m: m.scaled(-3))) < -0.9999


def test_sketches_of_unlike_updates_are_unlike_and_of_near_ones_near():
    apart = [abs(sketch(adapter(2 * n)) @ sketch(adapter(2 * n + 1))) for n in range(200)]
    assert max(apart) < 0.6
    assert np.sqrt(np.mean(np.square(apart))) < 1.5 / np.sqrt(SIZE)
    errors = []
    for n in range(200):
        source, noise = adapter(n), adapter(1000 + n)
        both = {
            name: LoraFactors(
                np.concatenate([m.A, 0.2 * noise.factors[name].A]),
                np.concatenate([m.B, noise.factors[name].B], axis=1),
            )
            for name, m in source.factors.items()
        }
        near = Adapter(both)
        errors.append(sketch(source) @ sketch(near) - cosine(dense(source), dense(near)))
    assert np.abs(errors).max() < 0.06


def test_a_sketch_knows_modules_by_name_and_shape():
    renamed = adapter(0, names=[f"other.{name}" for name in NAMES])
    assert abs(sketch(adapter(0)) @ sketch(renamed)) < 0.6


def test_a_sketch_is_packed_into_few_characters_and_only_its_own_are_read():
    vector = sketch(adapter(0))
    text = pack(vector)
    assert len(text) == 172
    assert np.abs(unpack(text) - vector).max() < 1e-3
    for other in ("", "!!", text[:-4], "AAAA", pack(np.full(SIZE, np.inf))):
        assert unpack(other) is None
