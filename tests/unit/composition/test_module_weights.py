"""Weights by module: beginnings and parts of names, gradients over the depth."""

from dataclasses import replace

import numpy as np
import pytest

from lora_studio.composition import METHODS, Recipe, Source, choose_units, compose, run_recipe
from lora_studio.composition.module_weights import at, depths, module_factors
from lora_studio.errors import InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance

DATA_FREE = [m for m in METHODS if m.kind == "merging" and not m.tunes({"auto_scale": False})]


def test_a_gradient_is_read_at_the_layer_with_straight_lines_between():
    layers = [f"model.layers.{i}.self_attn.q_proj" for i in range(5)]
    found = module_factors({"*": (0.0, 1.0, 0.5)}, layers)
    assert list(found.values()) == [0.0, 0.5, 1.0, 0.75, 0.5]
    assert at((2.0,), 0.3) == 2.0


def test_layers_that_are_left_out_keep_their_place():
    found = depths(["h.0.attn", "h.3.attn", "wte", "ln_f"])
    assert found == {"h.0.attn": 0.0, "h.3.attn": 1.0, "wte": 0.0, "ln_f": 1.0}
    assert depths(["h.0.attn"]) == {"h.0.attn": 1.0}


def test_a_unet_is_as_deep_as_its_blocks_in_the_order_a_picture_passes_them():
    found = depths(
        ["unet.up_blocks.1.a.to_q", "unet.down_blocks.0.a.to_q", "unet.mid_block.a.to_q",
         "unet.up_blocks.0.a.to_q", "unet.down_blocks.1.a.to_q", "unet.conv_in", "unet.conv_out",
         "text_encoder.text_model.encoder.layers.0.q", "text_encoder.text_model.encoder.layers.2.q"]
    )  # fmt: skip
    assert found["unet.down_blocks.0.a.to_q"] == found["unet.conv_in"] == 0
    assert found["unet.mid_block.a.to_q"] == 0.5
    assert found["unet.up_blocks.1.a.to_q"] == found["unet.conv_out"] == 1
    assert found["text_encoder.text_model.encoder.layers.0.q"] == 0
    assert found["text_encoder.text_model.encoder.layers.2.q"] == 1


def test_the_single_blocks_of_a_transformer_come_behind_the_double_ones():
    double = [f"transformer.transformer_blocks.{i}.attn.to_q" for i in range(2)]
    single = [f"transformer.single_transformer_blocks.{i}.attn.to_q" for i in range(3)]
    assert list(depths([*single, *double]).values()) == [0.5, 0.75, 1.0, 0.0, 0.25]


def test_one_key_counts_alone_the_beginning_before_the_part():
    weights = {"model.layers.0": 2.0, "*": 3.0, "*q_proj*": 4.0, "model.layers.0.mlp": 5.0}
    found = module_factors(
        weights,
        ["model.layers.0.q_proj", "model.layers.0.mlp.up", "model.layers.1.q_proj", "model.x"],
    )
    assert list(found.values()) == [2.0, 5.0, 4.0, 3.0]
    assert module_factors({"model.layers.1": 2.0}, ["model.layers.1.q", "model.layers.10.q"]) == {
        "model.layers.1.q": 2.0,
        "model.layers.10.q": 1.0,
    }


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a*b": 1}, "names no modules"),
        ({"": 1}, "names no modules"),
        ({"**": 1}, "names no modules"),
        ({"*": []}, "1 to 128"),
        ({"*": [1, "x"]}, "expected a number"),
        ({"*": True}, "expected a number"),
        ({"*": [float("nan")]}, "expected a number"),
        ({"*": [101]}, "from -100 to 100"),
        ([1], "are objects"),
    ],
)
def test_what_is_no_weight_is_refused_by_name(weights, message):
    with pytest.raises(InvalidRequest, match=message):
        Recipe.from_dict({"sources": [{"id": "a", "module_weights": weights}]})


def test_a_part_that_no_module_has_is_an_error():
    with pytest.raises(InvalidRequest, match="no module with 'mlp' in its name"):
        choose_units(build_adapter(), Source("a", module_weights={"*mlp*": 0.5}))


def test_gradients_round_trip_and_are_part_of_the_request():
    source = Source("a", module_weights={"*": (1.0, 0.25), "*q_proj*": 0.0})
    recipe = Recipe({"repo": "tiny"}, (source,), "cat")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()).id == recipe.id
    assert recipe.id != Recipe({"repo": "tiny"}, (Source("a"),), "cat").id


@pytest.mark.parametrize("method", DATA_FREE, ids=lambda m: m.name)
def test_every_merge_takes_gradients_and_filters_as_weights_on_the_modules(method):
    """The same as handing the method adapters whose modules were scaled before."""
    one, two = build_adapter(1, layers=3), build_adapter(2, layers=3)
    if method.name == "shared_factor":  # takes adapters of one A only
        own = {n: replace(m, A=one.factors[n].A) for n, m in two.factors.items()}
        two = replace(two, factors=own)
    source = Source("1", module_weights={"*": (1.0, 0.5, -0.25), "*v_proj*": 0.0})
    recipe = Recipe({"repo": "tiny"}, (source, Source("2")), method.name, seed=3)
    found = run_recipe(recipe, {"1": one, "2": two}.__getitem__)
    factors = {
        name: module.scaled([1.0, 0.5, -0.25][int(name.split(".")[2])])
        for name, module in one.factors.items()
        if "v_proj" not in name
    }
    cut = replace(one, factors=factors)
    wanted = compose(method.name, [cut, two], seed=3)
    assert found.adapter.id == wanted.adapter.id
    if method.name == "cat":
        total = {n: d + deltas(cut).get(n, np.zeros_like(d)) for n, d in deltas(two).items()}
        assert distance(deltas(found.adapter), total) < 1e-6
