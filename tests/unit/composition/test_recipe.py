import numpy as np
import pytest

from lora_studio.composition import Merged, Recipe, Routed, Source, choose_units, run_recipe
from lora_studio.errors import IncompatibleAdapters, InvalidRequest, NotFound
from tests.conftest import build_adapter
from tests.deltas import deltas, distance


def recipe(**changes):
    sources = (
        Source("a", 0.5, units={"m.0": {"include": [0, 2]}}, module_weights={"m.1": 2.0}),
        Source("b", -1.0, enabled=False),
    )
    given = {"base": {"repo": "tiny"}, "sources": sources, "method": "lego", "seed": 7}
    return Recipe(**{**given, "params": {"rank": 4, "gauge": "balanced"}, **changes})


def test_yaml_gives_back_an_equal_recipe():
    whole = recipe(notes="why: not", retrieval={"query": "past", "top_k": 3})
    assert Recipe.from_yaml(whole.to_yaml()) == whole


def test_fields_it_does_not_know_are_kept_and_are_no_part_of_the_request():
    data = recipe().to_dict() | {"evaluation": [{"vote": "a"}], "tool": {"name": "other"}}
    data["sources"][0] |= {"license": "mit", "trigger_words": ["x"]}
    found = Recipe.from_yaml(Recipe.from_dict(data).to_yaml())
    assert found.id == recipe().id == found.to_dict()["id"]
    assert found.to_dict()["evaluation"] == [{"vote": "a"}]
    assert found.sources[0].about == {"license": "mit", "trigger_words": ["x"]}


def test_a_recipe_with_anchors_is_refused():
    with pytest.raises(InvalidRequest, match="anchors"):
        Recipe.from_yaml("a: &a [1]\nb: [*a, *a]\n")


def test_the_id_is_of_the_request_only():
    plain = recipe()
    assert plain.id == recipe(notes="x", retrieval={"query": "q"}).id
    for change in ({"seed": 8}, {"method": "svd"}, {"params": {}}, {"base": {"repo": "other"}}):
        assert recipe(**change).id != plain.id


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "schema: 1"),
        ({"schema": 9, "sources": [{"id": "a"}]}, "schema: 1"),
        ({"sources": []}, "1 to 64 sources"),
        ({"sources": [{"weight": 1}]}, "adapter id"),
        ({"sources": [{"id": "a", "weight": "heavy"}]}, "expected a number"),
        ({"sources": [{"id": "a", "weight": float("nan")}]}, "expected a number"),
        ({"sources": [{"id": "a", "units": {"m": [1]}}]}, "include"),
        ({"sources": [{"id": "a"}], "compose": {"seed": -1}}, "seed"),
        ({"sources": [{"id": "a"}], "compose": "lego"}, "are objects"),
        ({"sources": [{"id": "a"}], "base": {"repo": ["x"]}}, "is text"),
        ({"sources": [{"id": "a"}], "modality": "sound"}, "text or image"),
    ],
)
def test_a_wrong_recipe_names_the_field(data, message):
    with pytest.raises(InvalidRequest, match=message):
        Recipe.from_dict(data)


def test_a_recipe_runs_with_the_chosen_units_and_module_weights_only():
    adapter = build_adapter(1, rank=4)
    first, second = list(adapter.factors)[:2]
    source = Source("a", units={first: {"include": [1, 3]}}, module_weights={second: 0.5})
    chosen = choose_units(adapter, source)
    module = adapter.factors[first]
    np.testing.assert_array_equal(chosen.factors[first].A, module.A[[1, 3]])
    np.testing.assert_allclose(deltas(chosen)[second], 0.5 * deltas(adapter)[second], rtol=1e-6)
    plan = run_recipe(Recipe({"repo": "tiny"}, (source,), "cat"), lambda _: adapter)
    assert isinstance(plan, Merged)
    assert distance(deltas(plan.adapter), deltas(chosen)) < 1e-6


def test_excluding_every_unit_of_a_module_drops_the_module():
    adapter = build_adapter(1, rank=2)
    first = next(iter(adapter.factors))
    chosen = choose_units(adapter, Source("a", units={first: {"exclude": [0, 1]}}))
    assert first not in chosen.factors


def test_units_that_do_not_exist_are_refused():
    adapter = build_adapter(1, rank=2)
    first = next(iter(adapter.factors))
    with pytest.raises(InvalidRequest, match="units 0 to 1"):
        choose_units(adapter, Source("a", units={first: {"include": [2]}}))
    with pytest.raises(InvalidRequest, match="no module 'nowhere'"):
        choose_units(adapter, Source("a", module_weights={"nowhere": 1.0}))


def test_adapters_of_different_bases_do_not_mix():
    pool = {"a": build_adapter(1, base="x"), "b": build_adapter(2, base="y")}
    mixed = Recipe({"repo": "x"}, (Source("a"), Source("b")), "cat")
    with pytest.raises(IncompatibleAdapters, match="different base models"):
        run_recipe(mixed, pool.__getitem__)


def test_unknown_methods_and_parameters_suggest_what_there_is():
    one = Recipe({"repo": "tiny"}, (Source("a"),), "leggo")
    with pytest.raises(NotFound, match="'lego'"):
        run_recipe(one, lambda _: build_adapter(1))
    wrong = Recipe({"repo": "tiny"}, (Source("a"),), "svd", {"ranks": 4})
    with pytest.raises(InvalidRequest, match="no parameter 'ranks'"):
        run_recipe(wrong, lambda _: build_adapter(1))


def test_routed_plans_choose_by_similarity():
    plan = Routed("mixture", {"a": 1.0, "b": 2.0, "c": 1.0}, top_k=2)
    assert plan.row({"a": 0.1, "b": 0.9, "c": 0.5}).terms == (("b", 1.0), ("c", 0.5))
    assert not plan.row({}).fuse
    assert Routed("fusion", {"a": 1.0}, 1).row({}).fuse
    assert not Routed("mixture", {"a": 1.0, "b": 1.0}, 2).needs_retrieval


def test_a_routed_plan_takes_whole_adapters():
    adapter = build_adapter(1)
    first = next(iter(adapter.factors))
    source = Source("a", units={first: {"include": [0]}})
    with pytest.raises(InvalidRequest, match="whole adapters"):
        run_recipe(Recipe({"repo": "tiny"}, (source,), "selection"), lambda _: adapter)
