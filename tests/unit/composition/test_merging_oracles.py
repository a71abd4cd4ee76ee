"""What each merge must give where the answer is known, and PEFT's own numbers."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition import compose
from lora_studio.formats import load_adapter, save_adapter
from tests.conftest import build_adapter
from tests.deltas import deltas, distance, weighted_sum


def merged(method, adapters, weights=None, **params):
    return compose(method, adapters, weights, **params).adapter


def three(rank=4):
    return [build_adapter(seed, rank=rank, scaling=0.5 * seed) for seed in (1, 2, 3)]


def test_cat_is_the_weighted_sum_of_the_updates():
    adapters = [build_adapter(1, rank=2), build_adapter(2, rank=5, scaling=3.0)]
    weights = [0.7, -0.4]
    result = merged("cat", adapters, weights)
    assert distance(deltas(result), weighted_sum(adapters, weights)) < 1e-6
    assert result.max_rank == 7


def test_svd_at_full_rank_is_cat_and_below_it_the_best_approximation():
    adapters = three()
    total = weighted_sum(adapters, [1, 1, 1])
    assert distance(deltas(merged("svd", adapters, rank=12)), total) < 1e-5
    cut = deltas(merged("svd", adapters, rank=3))
    for name, delta in total.items():
        u, s, vt = np.linalg.svd(delta)
        np.testing.assert_allclose(cut[name], u[:, :3] * s[:3] @ vt[:3], atol=1e-4)


def test_lego_of_copies_at_the_source_rank_is_the_adapter():
    adapter = build_adapter(1, rank=5)
    for gauge in ("raw", "balanced"):
        result = merged("lego", [adapter, adapter, adapter], rank=5, gauge=gauge)
        assert distance(deltas(result), deltas(adapter)) < 1e-6


def test_lego_with_every_unit_kept_is_the_scaled_sum():
    adapters = three(rank=4)
    total = weighted_sum(adapters, [1, 1, 1])
    expected = {name: np.sqrt(4 / 12) * delta for name, delta in total.items()}
    assert distance(deltas(merged("lego", adapters, rank=12)), expected) < 1e-6


def test_lego_restores_the_norm_that_averaging_loses():
    adapters = [build_adapter(seed, rank=8) for seed in range(5)]
    mean = np.mean([a.norm() for a in adapters])
    assert merged("lego", adapters, rank=8).norm() == pytest.approx(mean, rel=0.25)


@pytest.mark.parametrize("basis", ["raw", "svd"])
def test_balanced_lego_does_not_see_permutation_sign_or_scale_of_units(basis):
    adapters = [build_adapter(seed, rank=6) for seed in (1, 2)]
    rng = np.random.default_rng(0)

    def rewritten(module):
        order, sign = rng.permutation(6), rng.choice([-1.0, 1.0], 6)
        size = sign * rng.uniform(0.4, 2.5, 6)
        a, b = (module.A * size[:, None])[order], (module.B / size)[:, order]
        return LoraFactors(a.astype("f"), b.astype("f"))

    other = [Adapter({n: rewritten(m) for n, m in a.factors.items()}, a.card) for a in adapters]
    settings = {"rank": 6, "gauge": "balanced", "basis": basis}
    left, right = merged("lego", adapters, **settings), merged("lego", other, **settings)
    assert distance(deltas(left), deltas(right)) < 2e-4


def test_raw_lego_does_see_them_which_is_why_balanced_exists():
    source = build_adapter(1, rank=6)
    flip = np.array([1, -1, 1, -1, 1, -1], np.float32)
    flipped = Adapter(
        {n: LoraFactors(m.A * flip[:, None], m.B * flip) for n, m in source.factors.items()},
        source.card,
    )
    raw = merged("lego", [source, flipped], rank=6)
    balanced = merged("lego", [source, flipped], rank=6, gauge="balanced")
    assert distance(deltas(raw), deltas(source)) > 0.3
    assert distance(deltas(balanced), deltas(source)) < 1e-5


def test_one_adapter_below_its_rank_is_pruned():
    adapter = build_adapter(1, rank=8)
    pruned = merged("lego", [adapter], rank=3)
    assert pruned.max_rank == 3
    assert 0.3 < pruned.cosine(adapter) < 1


def test_ties_keeps_the_majority_sign():
    def single(value):
        a = np.eye(2, dtype=np.float32)
        return Adapter({"m": LoraFactors(a, np.array(value, np.float32))})

    adapters = [single([[2, 1], [0, 4]]), single([[4, -3], [0, 2]]), single([[-1, -1], [0, 0]])]
    result = deltas(merged("ties_delta", adapters, density=1.0, rank=2))["m"]
    np.testing.assert_allclose(result, [[3, -2], [0, 3]], atol=1e-5)


def test_wide_modules_are_cut_as_well_by_a_sketch_as_exactly(monkeypatch):
    from lora_studio.composition.merging import dense

    adapters = [build_adapter(seed, rank=3) for seed in (1, 2)]
    exact = merged("ties_delta", adapters, density=1.0, rank=6)
    monkeypatch.setattr(dense, "EXACT_SIZE", 0)
    assert merged("ties_delta", adapters, density=1.0, rank=6).cosine(exact) > 0.9999


def test_scale_multiplies_the_result():
    adapters = three()
    one, half = merged("svd", adapters), merged("svd", adapters, scale=0.5)
    expected = {n: 0.5 * d for n, d in deltas(one).items()}
    assert distance(deltas(half), expected) < 1e-6


@pytest.fixture(scope="module")
def peft_model(tmp_path_factory):
    """A tiny Llama with two trained-looking adapters of rank 4 in PEFT, and the same two here."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    folder = tmp_path_factory.mktemp("peft")
    base = LlamaForCausalLM(config)
    model = None
    for name, alpha in (("one", 8), ("two", 2)):
        lora = LoraConfig(r=4, lora_alpha=alpha, target_modules=["q_proj", "up_proj"])
        if model is None:
            model = get_peft_model(base, lora, adapter_name=name)
        else:
            model.add_adapter(name, lora)
        for key, parameter in model.named_parameters():
            if f"lora_B.{name}" in key:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model, [load_adapter(folder / "one"), load_adapter(folder / "two")]


def peft_deltas(model, adapter_name):
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and adapter_name in module.lora_A:
            delta = module.get_delta_weight(adapter_name)
            found[name.removeprefix("base_model.model.")] = delta.detach().double().numpy()
    return found


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.3, 0.9], [0.8, -0.5]])
@pytest.mark.parametrize("method", ["linear", "cat", "svd"])
def test_numbers_are_peft_s(peft_model, method, weights):
    model, adapters = peft_model
    name = f"{method}-{weights}".replace(".", "_")
    model.add_weighted_adapter(["one", "two"], weights, name, combination_type=method)
    ours = deltas(merged(method, adapters, weights))
    assert distance(ours, peft_deltas(model, name)) < 2e-5


def test_a_merge_loads_in_peft_and_gives_the_same_logits(peft_model, tmp_path):
    _, adapters = peft_model
    result = merged("lego", adapters, rank=6)
    save_adapter(result, tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    base = LlamaForCausalLM(config).eval()
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        wrapped = PeftModel.from_pretrained(base, str(tmp_path))
        ours = wrapped(tokens).logits
        for name, module in result.factors.items():
            delta = torch.from_numpy(deltas(result)[name]).float()
            layer = wrapped.get_base_model().get_submodule(name)
            assert (module.d_out, module.d_in) == tuple(layer.base_layer.weight.shape)
            layer.base_layer.weight += delta
        with wrapped.disable_adapter():
            dense = wrapped(tokens).logits
    torch.testing.assert_close(ours, dense, atol=1e-5, rtol=1e-4)
