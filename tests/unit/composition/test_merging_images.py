"""Merges of adapters of image models: convolutions, kinds that formats disagree on, cuts, DoRA."""

from dataclasses import replace

import numpy as np
import pytest

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged, Recipe, Scheduled, Source, compose, run_recipe
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance, weighted_sum
from tests.unit.composition.playing import (
    CONTENT,
    CONV,
    PROJ,
    STYLE,
    TEXT,
    image_adapter,
    play,
)


def run(method, sources, pool, **more):
    given = {"modality": "image", **more}
    return run_recipe(Recipe({}, tuple(sources), method, **given), pool.__getitem__)


def with_module(adapter, name, **changes):
    factors = {**adapter.factors, name: replace(adapter.factors[name], **changes)}
    return Adapter(factors, adapter.card)


@pytest.mark.parametrize("method", ["lego", "svd", "ties_delta", "linear", "cat", "preset"])
@pytest.mark.parametrize("first", [True, False])
def test_a_1x1_convolution_merges_with_the_same_layer_called_linear(method, first):
    pair = [image_adapter(1), image_adapter(2, linear=(PROJ,))][:: 1 if first else -1]
    merged = compose(method, pair).adapter
    assert merged.factors[PROJ].kind == "conv"
    assert merged.factors[PROJ].kernel == (8, 1, 1)
    if method == "cat":
        assert distance(deltas(merged), weighted_sum(pair, [1, 1])) < 1e-6


def test_convolutions_of_other_kernels_are_refused_with_both_shapes():
    other = with_module(image_adapter(2), CONV, kernel=(27, 1, 1))
    with pytest.raises(IncompatibleAdapters, match="conv 27→8 under 3x3 taps"):
        compose("cat", [image_adapter(1), other])


def test_dora_is_merged_only_where_it_is_alone():
    gain = np.ones(8, "f")
    dora = with_module(image_adapter(1), CONV, magnitude=gain)
    with pytest.raises(IncompatibleAdapters, match=f"'{CONV}' is a DoRA module"):
        compose("cat", [dora, image_adapter(2)])
    alone = compose("cat", [dora, image_adapter(2, modules=(CONTENT,))]).adapter
    np.testing.assert_array_equal(alone.factors[CONV].magnitude, gain)


def test_adapters_of_text_and_image_models_do_not_mix():
    with pytest.raises(IncompatibleAdapters, match="for text models and some for image models"):
        compose("cat", [image_adapter(1), build_adapter(2)])


def test_a_text_recipe_refuses_a_denoising_method_and_an_image_recipe_a_routing_one():
    pool = {"a": image_adapter(1), "t": build_adapter(1)}
    with pytest.raises(InvalidRequest, match="LoRA Switch is for image models"):
        run("switch", [Source("a")], pool, modality="text")
    with pytest.raises(InvalidRequest, match="Mixture is for text models"):
        run("mixture", [Source("t")], pool)


def test_the_longest_beginning_of_a_module_s_name_sets_its_weight():
    adapter = image_adapter(1)
    prefixes = {"unet": 0.5, "unet.up_blocks.0": 2.0, "unet.up_blocks.0.attentions.1": 0.0}
    plan = run("cat", [Source("a", module_weights=prefixes)], {"a": adapter})
    assert isinstance(plan, Merged)
    expected = {CONV: 0.5, PROJ: 0.5, CONTENT: 2.0, TEXT: 1.0}
    whole = deltas(adapter)
    wanted = {name: factor * whole[name] for name, factor in expected.items()}
    assert distance(deltas(plan.adapter), wanted) < 1e-6


@pytest.mark.parametrize("prefix", ["unet.up_blocks.9", "unet.up_blocks.0.att", "", "nowhere"])
def test_a_beginning_that_no_module_has_is_refused(prefix):
    with pytest.raises(InvalidRequest, match=f"no module '{prefix}'"):
        run("cat", [Source("a", module_weights={prefix: 1.0})], {"a": image_adapter(1)})


def test_a_cut_adapter_acts_in_place_of_the_whole_one():
    pool = {"a": image_adapter(1), "b": image_adapter(2)}
    cut = Source("a", 0.5, units={CONTENT: {"include": [0]}}, module_weights={"unet": 0.5})
    plan = run("composite", [cut, Source("b")], pool)
    assert isinstance(plan, Scheduled)
    ((name, adapter),) = plan.replaced.items()
    assert name.startswith("a#")
    assert adapter.factors[CONTENT].rank == 1
    assert [dict(b.schedule(0, 9)) for b in plan.branches] == [{name: 0.5}, {"b": 1.0}]
    again = run("switch", [cut], pool)
    assert list(again.replaced) == [name], "the same cut has the same name everywhere"
    other = run("switch", [replace(cut, module_weights={"unet": 0.7})], pool)
    assert list(other.replaced) != [name]


def test_whole_adapters_replace_nothing():
    plan = run("composite", [Source("a")], {"a": image_adapter(1)})
    assert plan.replaced == {}


def test_k_lora_weighs_what_is_left_of_a_cut_adapter():
    pool = {"a": image_adapter(1), "b": image_adapter(2)}
    plan = run("k_lora", [Source("a", module_weights={STYLE: 0.0}), Source("b")], pool)
    (cut,) = plan.replaced
    weights = plan.branches[0].schedule(0, 20)
    assert STYLE not in weights[cut]
    assert weights["b"][STYLE] == 1.0
    assert play(plan)[0].isfinite().all()
