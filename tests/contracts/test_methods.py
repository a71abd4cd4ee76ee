"""What every registered method must keep, whoever wrote it."""

import inspect

import numpy as np
import pytest

from lora_studio.composition import METHODS, Merged, Recipe, Routed, Source, compose, run_recipe
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance

MERGING = [m.name for m in METHODS if m.kind == "merging"]
ROUTING = [m.name for m in METHODS if m.kind == "routing"]
ALL = METHODS.names()


@pytest.mark.parametrize("name", MERGING)
def test_one_adapter_at_weight_one_is_the_identity(name):
    adapter = build_adapter(1, scaling=1.7)
    assert distance(deltas(compose(name, [adapter]).adapter), deltas(adapter)) < 1e-6


@pytest.mark.parametrize("name", MERGING)
def test_the_order_of_adapters_does_not_matter(name):
    adapters = [build_adapter(i, rank=3 + i) for i in range(3)]
    weights = [1.0, 0.5, -0.25]
    left = compose(name, adapters, weights).adapter
    right = compose(name, adapters[::-1], weights[::-1]).adapter
    assert distance(deltas(left), deltas(right)) < 1e-5


@pytest.mark.parametrize("name", MERGING)
def test_mixed_ranks_scalings_and_missing_modules_are_taken(name):
    one = build_adapter(1, rank=2, layers=3, scaling=0.5)
    two = build_adapter(2, rank=7, layers=1, scaling=4.0, kinds=("q_proj", "o_proj"))
    result = compose(name, [one, two]).adapter
    assert set(result.factors) == set(one.factors) | set(two.factors)
    assert all(np.isfinite(d).all() for d in deltas(result).values())


@pytest.mark.parametrize("name", MERGING)
def test_weight_zero_leaves_an_adapter_out(name):
    one, two = build_adapter(1), build_adapter(2)
    with_zero = compose(name, [one, two], [1.0, 0.0]).adapter
    assert distance(deltas(with_zero), deltas(compose(name, [one]).adapter)) < 1e-6


@pytest.mark.parametrize("name", ["cat", "svd", "linear", "lego"])
def test_a_negative_weight_turns_the_update_around(name):
    adapter = build_adapter(1)
    negated = deltas(compose(name, [adapter], [-1.0]).adapter)
    assert distance(negated, {n: -d for n, d in deltas(adapter).items()}) < 1e-6


@pytest.mark.parametrize("name", MERGING)
def test_the_same_seed_gives_the_same_bytes(name):
    adapters = [build_adapter(i) for i in range(3)]
    first, second = (compose(name, adapters, seed=5).adapter for _ in range(2))
    assert first.id == second.id


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_round_trip_composes_the_same(name):
    pool = {str(i): build_adapter(i) for i in range(3)}
    defaults = {p.name: p.default for p in METHODS.get(name).params}
    recipe = Recipe({"repo": "tiny"}, tuple(Source(i) for i in pool), name, defaults, seed=3)
    first = run_recipe(recipe, pool.__getitem__)
    second = run_recipe(Recipe.from_yaml(recipe.to_yaml()), pool.__getitem__)
    if isinstance(first, Merged):
        assert isinstance(second, Merged)
        assert first.adapter.id == second.adapter.id
    else:
        assert first == second


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_zeros_is_refused(name):
    with pytest.raises(InvalidRequest, match="Every weight is zero"):
        compose(name, [build_adapter(1)], [0.0])


@pytest.mark.parametrize("name", MERGING)
def test_sizes_that_differ_are_refused_with_the_module(name):
    big = build_adapter(2)
    cut = {n: type(m)(m.A[:, :-1], m.B) for n, m in big.factors.items()}
    with pytest.raises(IncompatibleAdapters, match="q_proj"):
        compose(name, [build_adapter(1), type(big)(cut, big.card)])


@pytest.mark.parametrize("name", ROUTING)
def test_routed_plans_name_only_their_sources(name):
    adapters = [build_adapter(i) for i in range(4)]
    plan = compose(name, adapters, [1.0, 1.0, 0.0, 1.0])
    assert isinstance(plan, Routed)
    assert set(plan.weights) == {adapters[i].id for i in (0, 1, 3)}
    row = plan.row({adapters[1].id: 0.9})
    assert row.terms[0][0] == adapters[1].id
    assert len(row.terms) == plan.top_k


@pytest.mark.parametrize("name", ALL)
def test_the_signature_is_the_whole_declaration(name):
    method = METHODS.get(name)
    assert method.summary.endswith(".")
    assert len(inspect.getdoc(method.function).split("\n\n")) >= 2, "formula and relations"
    for param in method.params:
        assert param.check(param.default) == param.default
        assert param.type in ("choice", "bool") or param.min <= param.default <= param.max
        assert param.help


@pytest.mark.parametrize("name", MERGING)
def test_parameters_out_of_range_are_refused_by_name(name):
    for param in METHODS.get(name).params:
        bad = {"choice": "nonsense", "bool": 3}.get(param.type, 1e9)
        with pytest.raises(InvalidRequest, match=param.name):
            compose(name, [build_adapter(1)], **{param.name: bad})
