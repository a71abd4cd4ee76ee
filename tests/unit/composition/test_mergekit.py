"""mergekit's YAML, read and written: what maps is equal, what does not is refused by name."""

import numpy as np
import pytest
import yaml

from lora_studio.composition import Recipe, Source, run_recipe
from lora_studio.composition.mergekit import read_mergekit, write_mergekit
from lora_studio.errors import InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance

EVERYDAY = """
models:
  - model: meta/base+me/past-0123456789ab
    parameters:
      density: 0.4
      weight: 0.5
  - model: meta/base+./french
    parameters:
      density: 0.4
      weight: 0.5
  - model: meta/base
merge_method: ties
base_model: meta/base
parameters: {normalize: true, int8_mask: true}
dtype: bfloat16
"""
FILTERED = """
models:
  - model: b+one
    parameters:
      weight:
        - filter: v_proj
          value: [0.0, 0.4, 1.0]
        - filter: layers.1.
          value: 0.25
        - value: 2
  - model: {model: {path: b, revision: null}, lora: {path: two}}
    parameters: {weight: [1, 0]}
merge_method: task_arithmetic
base_model: b
"""


def load(text):
    return read_mergekit(yaml.safe_load(text))


def pool(layers=3):
    return {"one": build_adapter(1, layers=layers), "two": build_adapter(2, layers=layers)}


def theirs(setting, tensor, t):
    """mergekit's rule for a setting, as its documentation has it."""
    if isinstance(setting, list) and isinstance(setting[0], dict):
        for row in setting:
            if row.get("filter") is None or row["filter"] in tensor:
                return theirs(row["value"], tensor, t)
        return None
    if isinstance(setting, list):
        return float(np.interp(t, np.linspace(0, 1, len(setting)), setting))
    return setting


def test_an_everyday_file_is_read():
    found = load(EVERYDAY)
    recipe = found.recipe
    assert (recipe.method, recipe.base) == ("ties_delta", {"repo": "meta/base"})
    assert recipe.params == {"density": 0.4}
    first, second = recipe.sources
    assert (first.id, first.about["file"]) == ("0123456789ab", "me/past-0123456789ab")
    assert (second.id, second.about["title"]) == ("./french", "french")
    assert first.weight == 1.0  # equal weights cancel under normalize
    assert any("dtype" in note for note in found.notes)


def test_filters_and_gradients_compose_what_mergekit_would_add():
    recipe = load(FILTERED).recipe
    adapters = pool()
    made = deltas(run_recipe(recipe, adapters.__getitem__).adapter)
    wanted = {}
    models = yaml.safe_load(FILTERED)["models"]
    for (_, adapter), model in zip(adapters.items(), models, strict=True):
        for name, delta in deltas(adapter).items():
            t = int(name.split(".")[2]) / 2
            weight = theirs(model["parameters"]["weight"], f"{name}.weight", t)
            wanted[name] = wanted.get(name, 0) + weight * delta
    # layer 1's v_proj has both filters in its name: mergekit takes the first, we the longer
    both = "model.layers.1.self_attn.v_proj"
    assert any("longer one counts here" in note for note in load(FILTERED).notes)
    wanted[both] = 0.25 * deltas(adapters["one"])[both] + 0.5 * deltas(adapters["two"])[both]
    assert distance(made, wanted) < 1e-6


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("task_arithmetic", {}),
        ("ties_delta", {"density": 0.3}),
        ("dare_delta", {"density": 0.7, "elect_signs": True}),
        ("dare_delta", {"density": 0.7, "elect_signs": False, "scale": 0.5}),
        ("della_delta", {"density": 0.5, "epsilon": 0.2, "elect_signs": False}),
        ("della_delta", {"density": 0.5, "epsilon": 0.2, "elect_signs": True}),
        ("breadcrumbs_delta", {"density": 0.6, "gamma": 0.05, "elect_signs": False}),
        ("breadcrumbs_delta", {"density": 0.6, "gamma": 0.05, "elect_signs": True}),
        ("slerp", {}),
        ("karcher", {}),
        ("cat", {}),
        ("task_arithmetic", {"mean": True}),
    ],
)
@pytest.mark.parametrize("size", [1.0, 0.75])
def test_what_is_written_is_read_as_the_same_composition(method, params, size):
    sources = (Source("one", size), Source("two", -size))
    recipe = Recipe({"repo": "tiny"}, sources, method, params, seed=4)
    back = load(write_mergekit(recipe, {"one": "one", "two": "two"})).recipe
    adapters = pool()
    made, again = (run_recipe(r, adapters.__getitem__).adapter for r in (recipe, back))
    assert distance(deltas(made), deltas(again)) < 1e-5


def test_weights_by_module_round_trip_and_the_second_trip_changes_nothing():
    weights = {"*v_proj*": (1.0, 0.5), "model.layers.0": 0.25, "*": 2.0}
    sources = (Source("one", 0.5, module_weights=weights), Source("two", 0.5))
    recipe = Recipe({"repo": "tiny"}, sources, "task_arithmetic")
    text = write_mergekit(recipe, {"one": "one", "two": "two"})
    back = load(text).recipe
    adapters = pool()
    made, again = (run_recipe(r, adapters.__getitem__).adapter for r in (recipe, back))
    assert distance(deltas(made), deltas(again)) < 1e-6
    twice = load(write_mergekit(back, {"one": "one", "two": "two"})).recipe
    assert twice.to_dict()["sources"] == back.to_dict()["sources"]


def test_the_file_says_what_it_cannot_carry():
    units = {"model.layers.0.self_attn.q_proj": {"include": [0]}}
    recipe = Recipe({"repo": "b"}, (Source("one", units=units),), "svd", {"rank": 4})
    text = write_mergekit(recipe, {"one": "one"})
    assert "Not carried: the rank" in text
    assert "Not carried: the choice of rank units" in text
    assert yaml.safe_load(text)["merge_method"] == "task_arithmetic"


@pytest.mark.parametrize("method", ["lego", "linear", "preset", "mixture", "ties"])
def test_methods_that_mergekit_lacks_are_not_written(method):
    with pytest.raises(InvalidRequest, match="no counterpart in mergekit"):
        write_mergekit(Recipe({"repo": "b"}, (Source("one"),), method), {"one": "one"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_method": "model_stock"}, "'model_stock' has no counterpart"),
        ({"merge_method": ["ties"]}, "no counterpart"),
        ({"slices": [1]}, "'slices' takes models apart"),
        ({"extra": 1}, "'extra' of a mergekit YAML"),
        ({"models": []}, "list of 1 to"),
        ({"models": [{"model": "other"}]}, "is a whole model"),
        ({"models": [{"model": "c+x", "parameters": {"weight": 1}}]}, "different base models"),
        ({"models": [{"model": "b+x"}]}, "no weight"),
        ({"models": [{"model": "b+x", "parameters": {"weight": "a"}}]}, "expected a number"),
        ({"models": [{"model": "b+x", "parameters": {"weight": [1, "a"]}}]}, "expected a number"),
        ({"models": [{"model": "b+x", "parameters": {"t": 1}}]}, "parameter 't'"),
        ({"parameters": {"normalize": False}}, "normalize: true"),
        ({"parameters": {"rescale": True}}, "rescale"),
        ({"parameters": {"density": [0.5, 1.0]}}, "one number for all"),
        ({"parameters": {"gamma": 0.1}}, "no 'gamma'"),
        ({"parameters": {"density": 0.001}}, "density is 0.001"),
        ({"base_model": "b+x"}, "base_model has an adapter"),
        ({"base_model": 7}, "is text such as"),
    ],
)
def test_what_does_not_map_is_refused_by_name(change, message):
    good = {
        "merge_method": "ties",
        "base_model": "b",
        "models": [{"model": "b+x", "parameters": {"weight": 1}}],
    }
    with pytest.raises(InvalidRequest, match=message):
        read_mergekit({**good, **change})


def test_densities_that_differ_are_refused():
    text = EVERYDAY.replace("density: 0.4", "density: 0.6", 1)
    with pytest.raises(InvalidRequest, match="'density' differs"):
        load(text)
