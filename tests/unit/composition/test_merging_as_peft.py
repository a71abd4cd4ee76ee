"""PEFT's combination types: its numbers where it is right, the right answer where it is not."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from lora_studio.composition import compose
from lora_studio.composition.merging.modules import stacks_of
from lora_studio.composition.merging.sparsify import draws, drop_random
from lora_studio.composition.method import Inputs
from lora_studio.errors import IncompatibleAdapters, LoraStudioError
from lora_studio.formats import load_adapter, save_adapter
from tests.deltas import deltas, distance, weighted_sum

PLAIN = ["linear", "cat", "svd", "ties", "ties_svd", "magnitude_prune", "magnitude_prune_svd"]
RANDOM = ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"]
WEIGHTS = [[1.0, 1.0], [0.3, 0.9], [0.8, -0.5]]
SEED, DENSITY = 7, 0.6


class Base(nn.Module):
    """One layer of each kind that carries adapters."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(30, 12)
        self.proj = nn.Linear(12, 16)
        self.out = nn.Linear(16, 10)
        self.conv = nn.Conv2d(3, 6, 3)
        self.point = nn.Conv2d(6, 5, 1)

    def prepare_inputs_for_generation(self):
        """PEFT asks every model of a language task for it."""


LAYERS = ["tokens", "proj", "out", "conv", "point"]


def peft_with(*configs):
    """A PEFT model with adapters "0", "1", ... of random factors."""
    torch.manual_seed(0)
    model = get_peft_model(Base(), LoraConfig(**configs[0]), adapter_name="0")
    for place, config in enumerate(configs[1:], 1):
        model.add_adapter(str(place), LoraConfig(**config))
    for name, parameter in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def saved(model, folder, count=2):
    model.save_pretrained(folder)
    return [load_adapter(folder / str(i)) for i in range(count)]


def plain(rank=4, alpha=8, layers=LAYERS, **more):
    return {"r": rank, "lora_alpha": alpha, "target_modules": list(layers), **more}


def peft_deltas(model, name):
    """Module -> (d_out, d_in) update of one adapter in a PEFT model, convolutions flattened."""
    found = {}
    for path, module in model.named_modules():
        held = [*getattr(module, "lora_A", ()), *getattr(module, "lora_embedding_A", ())]
        if name in held:
            delta = module.get_delta_weight(name).detach().double().numpy()
            delta = delta.reshape(len(delta), -1)
            embedding = isinstance(module.get_base_layer(), nn.Embedding)
            found[path.removeprefix("base_model.model.")] = delta.T if embedding else delta
    return found


def in_peft(model, method, weights, **options):
    name = f"{method} {weights}".replace(".", "_")
    model.add_weighted_adapter(["0", "1"], weights, name, combination_type=method, **options)
    return peft_deltas(model, name)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two adapters of one rank and two alphas, one of them without the last layer."""
    model = peft_with(plain(), plain(alpha=2, layers=LAYERS[:-1]))
    return model, saved(model, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("method", PLAIN)
def test_every_combination_type_without_chance_gives_peft_s_numbers(two, method, weights):
    model, adapters = two
    options = {} if method in ("linear", "cat", "svd") else {"density": DENSITY}
    ours = deltas(compose(method, adapters, weights, **options).adapter)
    assert distance(ours, in_peft(model, method, weights, **options)) < 2e-5


@pytest.mark.parametrize("method", ["ties", "ties_svd"])
def test_signs_elected_by_frequency_are_peft_s(two, method):
    model, adapters = two
    options = {"density": DENSITY, "majority_sign_method": "frequency"}
    ours = deltas(compose(method, adapters, [1.0, 0.7], **options).adapter)
    assert distance(ours, in_peft(model, method, [1.0, 0.7], **options)) < 2e-5


def masks(model, adapters, method):
    """The draws of `compose`, in the order in which PEFT asks for them."""
    stacks = stacks_of(Inputs(adapters, [1.0, 1.0], seed=SEED))
    for path, module in model.named_modules():
        stack = stacks.get(path.removeprefix("base_model.model."))
        if stack is None or not hasattr(module, "lora_A"):
            continue
        given = [a.factors[stack.name] for a in adapters if stack.name in a.factors]
        places = [next(i for i, m in enumerate(stack.modules) if m is one) for one in given]
        drawn = []
        for one, place in zip(given, places, strict=True):
            rng = draws(SEED, stack, place)
            whole = (one.B @ one.A,) if method.endswith("svd") else (one.A, one.B)
            drawn.append([drop_random(np.ones_like(x), DENSITY, rng) != 0 for x in whole])
        for side in zip(*drawn, strict=True):
            yield from side


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("method", RANDOM)
def test_given_the_same_draws_dare_gives_peft_s_numbers(two, method, weights, monkeypatch):
    model, adapters = two
    drawn = masks(model, adapters, method)

    def bernoulli(chances):
        mask = torch.from_numpy(next(drawn)).to(chances.dtype)
        turned = chances.ndim == 2 and mask.shape != chances.shape  # PEFT turns embeddings around
        return mask.T if turned else mask.reshape(chances.shape)

    ours = deltas(compose(method, adapters, weights, seed=SEED, density=DENSITY).adapter)
    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    theirs = in_peft(model, method, weights, density=DENSITY)
    assert distance(ours, theirs) < 2e-5
    assert next(drawn, None) is None


@pytest.mark.parametrize("method", ["dare_linear_svd", "dare_delta"])
def test_the_mean_of_dare_over_seeds_is_the_weighted_sum(two, method):
    _, adapters = two
    total = weighted_sum(adapters, [1.0, -0.5])
    mean = dict.fromkeys(total, 0.0)
    for seed in range(300):
        options = {"density": 0.5, "rank": 64}
        found = deltas(compose(method, adapters, [1.0, -0.5], seed=seed, **options).adapter)
        mean = {name: mean[name] + found[name] / 300 for name in total}
    assert distance(mean, total) < 3 / np.sqrt(300)
    once = deltas(compose(method, adapters, [1.0, -0.5], density=0.5, rank=64).adapter)
    assert distance(once, total) > 0.5


def test_unequal_ranks_that_peft_refuses_are_merged_as_if_padded(tmp_path):
    model = peft_with(plain(rank=3), plain(rank=5))
    with pytest.raises(ValueError, match="same r"):
        in_peft(model, "ties", [1.0, 1.0], density=DENSITY)
    merged = compose("ties", saved(model, tmp_path), density=DENSITY).adapter
    assert merged.max_rank == 5


@pytest.mark.parametrize("method", ["cat", "svd"])
def test_rank_stabilised_adapters_keep_their_strength_where_peft_multiplies_it(tmp_path, method):
    layers = ["proj", "out"]
    model = peft_with(plain(layers=layers, use_rslora=True), plain(layers=layers))
    adapters = saved(model, tmp_path)
    total = weighted_sum(adapters, [1.0, 1.0])
    options = {} if method == "cat" else {"rank": 8}
    assert distance(deltas(compose(method, adapters, **options).adapter), total) < 1e-5
    peft_options = {} if method == "cat" else {"svd_rank": 8}
    theirs = in_peft(model, method, [1.0, 1.0], **peft_options)
    for name, delta in total.items():
        np.testing.assert_allclose(theirs[name], np.sqrt(8) * delta, atol=1e-4)


@pytest.mark.parametrize("method", ["linear", "ties", "magnitude_prune"])
def test_merges_of_rank_patterns_can_be_saved_and_loaded_where_peft_s_cannot(tmp_path, method):
    pattern = {"rank_pattern": {"proj": 2}, "alpha_pattern": {"proj": 4}}
    model = peft_with(plain(**pattern), plain(**pattern))
    adapters = saved(model, tmp_path / "sources")
    options = {} if method == "linear" else {"density": DENSITY}
    theirs = in_peft(model, method, [1.0, 1.0], **options)
    merged = compose(method, adapters, **options).adapter
    assert distance(deltas(merged), theirs) < 2e-5

    save_adapter(merged, tmp_path / "ours")
    back = PeftModel.from_pretrained(Base(), str(tmp_path / "ours"))
    assert distance(peft_deltas(back, "default"), deltas(merged)) < 1e-5

    model.save_pretrained(tmp_path, selected_adapters=[f"{method} [1_0, 1_0]"])
    with pytest.raises(RuntimeError, match="size mismatch"):
        PeftModel.from_pretrained(Base(), str(tmp_path / f"{method} [1_0, 1_0]"))


@pytest.mark.parametrize("method", PLAIN + RANDOM)
def test_dora_is_refused_where_peft_makes_up_a_magnitude(tmp_path, method):
    layers = ["proj", "out"]
    model = peft_with(plain(layers=layers, use_dora=True), plain(layers=layers, use_dora=True))
    adapters = saved(model, tmp_path)
    with pytest.raises(IncompatibleAdapters, match="DoRA"):
        compose(method, adapters)
    in_peft(model, "cat", [1.0, 1.0])  # says nothing
    module = model.base_model.model.proj.lora_magnitude_vector
    sources = module["0"].weight + module["1"].weight
    assert not torch.allclose(module["cat [1_0, 1_0]"].weight, sources, rtol=0.2)


def test_a_bias_is_refused_where_peft_loses_it(tmp_path):
    layers = ["proj", "out"]
    model = peft_with(*[plain(layers=layers, lora_bias=True)] * 2)
    in_peft(model, "cat", [1.0, 1.0])  # says nothing
    biases = {n: m.bias.detach() for n, m in model.base_model.model.proj.lora_B.items()}
    assert not torch.allclose(biases["cat [1_0, 1_0]"], 2 * (biases["0"] + biases["1"]), rtol=0.2)
    with pytest.raises(LoraStudioError, match="bias"):
        saved(model, tmp_path)


@pytest.mark.parametrize("method", PLAIN + RANDOM)
def test_a_dora_module_that_no_other_adapter_has_stays_as_it_is(tmp_path, method):
    model = peft_with(plain(layers=["out"], use_dora=True), plain(layers=["proj"]))
    adapters = saved(model, tmp_path)
    merged = compose(method, adapters).adapter.factors["out"]
    (own,) = adapters[0].factors.values()
    np.testing.assert_allclose(merged.delta(), own.delta(), atol=1e-6)
    np.testing.assert_array_equal(merged.magnitude, own.magnitude)
