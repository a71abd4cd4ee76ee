"""Adapters act on their own rows only, as PEFT would, and leave the base alone."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.engines.adapter_bank import AdapterBank, adaptable_modules
from lora_studio.engines.rows import RowPlan
from lora_studio.errors import IncompatibleAdapters, NotFound

IDS = torch.tensor([[5, 9, 40, 41, 42], [7, 7, 100, 3, 8], [200, 1, 2, 3, 4]])


def logits(engine, plans, ids=IDS):
    with torch.inference_mode(), engine.bank.rows(plans):
        return engine.model(input_ids=ids[: len(plans)]).logits


def fingerprint(model) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def one(*names: str) -> RowPlan:
    return RowPlan(tuple((name, 1.0) for name in names))


def test_base_is_bit_identical_after_a_thousand_cycles(engine, make_adapter):
    before = fingerprint(engine.model)
    rng = random.Random(0)
    adapters = {f"t{i}": make_adapter(50 + i, rank=1 + i) for i in range(4)}
    bad = make_adapter(60)
    name, factors = next(iter(bad.factors.items()))
    adapters["nan"] = Adapter({name: replace(factors, B=np.full_like(factors.B, np.nan))})
    adapters["huge"] = bad.scaled(1e20)
    for cycle in range(1000):
        chosen = rng.choice(sorted(adapters))
        engine.bank.add(chosen, adapters[chosen])
        plan = RowPlan(((chosen, rng.uniform(-2, 2)), ("a", 0.5)), fuse=cycle % 3 == 0)
        logits(engine, [plan, one("b"), RowPlan()][: 1 + cycle % 3], IDS[:, :2])
        engine.bank.remove(chosen)
    assert fingerprint(engine.model) == before


def test_the_fingerprint_notices_an_in_place_merge(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    before = fingerprint(model)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] += 1e-6
    assert fingerprint(model) != before


def test_rows_without_adapters_get_the_bare_model(engine):
    bare = logits(engine, [RowPlan()] * 3)
    mixed = logits(engine, [RowPlan(), one("b"), RowPlan()])
    assert torch.allclose(mixed[0], bare[0], atol=1e-5)
    assert torch.allclose(mixed[2], bare[2], atol=1e-5)
    assert not torch.allclose(mixed[1], bare[1], atol=1e-2)


def test_each_row_equals_running_alone_with_mixed_ranks_and_modules(engine):
    plans = [one("a"), RowPlan((("b", 0.5), ("c", -1.5))), one("c")]
    together = logits(engine, plans)
    for i, plan in enumerate(plans):
        alone = logits(engine, [plan], IDS[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-4)


def test_an_adapter_adds_its_delta_to_the_weights(engine, model_folder, make_adapter):
    adapter = make_adapter(2, rank=7, scaling=-0.7)
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"), dtype=torch.float32)
    for name, factors in adapter.factors.items():
        model.get_submodule(name).weight.data += torch.from_numpy(factors.delta())
    expected = model(input_ids=IDS).logits
    assert torch.allclose(logits(engine, [one("b")] * 3), expected, atol=2e-4)


def test_a_mixture_equals_one_adapter_of_all_ranks(engine, make_adapter):
    a, b = make_adapter(1, rank=2), make_adapter(2, rank=7, scaling=-0.7)
    cat = {
        name: LoraFactors(
            A=np.concatenate([a.factors[name].folded().A, b.factors[name].folded().A]),
            B=np.concatenate(
                [0.5 * a.factors[name].folded().B, 0.5 * b.factors[name].folded().B], 1
            ),
        )
        for name in a.factors
    }
    engine.bank.add("cat", Adapter(cat))
    mixture = RowPlan((("a", 0.5), ("b", 0.5)))
    both = logits(engine, [mixture, one("cat")], IDS[[0, 0]])
    assert torch.allclose(both[0], both[1], atol=1e-4)


def test_fusion_averages_a_and_b_apart(engine, make_adapter):
    a, c = make_adapter(1, rank=2).folded(), make_adapter(3, rank=4, skip=3).folded()
    fused = {}
    for name, left in a.factors.items():
        right = c.factors.get(name)
        grown_a = np.pad(left.A, ((0, 2), (0, 0))) if right else left.A
        grown_b = np.pad(left.B, ((0, 0), (0, 2))) if right else left.B
        fused[name] = LoraFactors(
            A=0.25 * grown_a + (0.75 * right.A if right else 0),
            B=0.25 * grown_b + (0.75 * right.B if right else 0),
        )
    engine.bank.add("fused", Adapter(fused))
    plan = RowPlan((("a", 0.25), ("c", 0.75)), fuse=True)
    both = logits(engine, [plan, one("fused")], IDS[[0, 0]])
    assert torch.allclose(both[0], both[1], atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_output_agrees_with_peft(kind, engine_of, model_folder):
    engine = engine_of(kind)
    targets = ["q_proj", "down_proj"] if kind == "llama" else ["c_attn"]
    torch.manual_seed(3)
    config = LoraConfig(
        r=5, lora_alpha=12, target_modules=targets, fan_in_fan_out=kind == "gpt2", bias="none"
    )
    base = AutoModelForCausalLM.from_pretrained(model_folder(kind), dtype=torch.float32)
    peft_model = get_peft_model(base, config).eval()
    factors = {}
    for name, module in peft_model.base_model.model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            module.lora_B["default"].weight.data.normal_(0, 0.3)
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            factors[name] = LoraFactors(
                A=a.detach().numpy(), B=b.detach().numpy(), scaling=module.scaling["default"]
            )
    assert factors
    engine.bank.add("peft", Adapter(factors))
    mine = logits(engine, [one("peft"), RowPlan(), one("peft")])
    with torch.inference_mode():
        theirs = peft_model(input_ids=IDS).logits
    assert torch.allclose(mine[[0, 2]], theirs[[0, 2]], atol=2e-4)
    assert not torch.allclose(mine[1], theirs[1], atol=1e-2)
    engine.bank.remove("peft")


def test_joined_and_selected_factors_equal_gathered_ones(engine):
    plans = [one("a"), RowPlan(), one("b", "c"), one("a"), one("c")]
    bank = engine.bank
    grown = bank.gather(plans[:1]).join(bank.gather(plans[1:3])).join(bank.gather(plans[3:]))
    for kept in ([0, 1, 2, 3, 4], [4, 1], [1, 0, 3], [1], [2, 2]):
        mine, fresh = grown.select(kept), bank.gather([plans[i] for i in kept])
        assert mine.plans == fresh.plans
        assert mine.modules.keys() == fresh.modules.keys()
        for name, rows in fresh.modules.items():
            n = len(kept)
            other = mine.modules[name]
            assert other.ranks == rows.ranks
            expected = rows.B.expand(n, -1, -1) @ rows.A.expand(n, -1, -1)
            assert torch.allclose(other.B.expand(n, -1, -1) @ other.A.expand(n, -1, -1), expected)


def test_rows_of_one_plan_store_their_factors_once(engine):
    factors = engine.bank.gather([one("a")] * 3).join(engine.bank.gather([one("a")] * 2))
    assert all(rows.A.shape[0] == 1 and len(rows.ranks) == 5 for rows in factors.modules.values())


def test_least_recently_used_adapters_leave_first(engine, make_adapter):
    adapter = make_adapter(1)
    bank = AdapterBank(engine.bank.modules, max_bytes=3 * 4 * adapter.parameters)
    for name in "wxy":
        bank.add(name, adapter)
    assert bank.has("w")
    bank.add("z", adapter)
    assert bank.ids == ["y", "w", "z"]
    bank.add("v", adapter, keep={"y"})
    assert bank.ids == ["y", "z", "v"]
    assert bank.bytes <= bank.max_bytes
    bank.close()


def test_an_adapter_for_another_base_is_refused_with_its_modules(engine, make_adapter):
    with pytest.raises(IncompatibleAdapters, match=r"transformer\.h\.0.*another base"):
        engine.bank.add("x", make_adapter(1, dims={"transformer.h.0.attn.c_attn": (32, 96)}))
    with pytest.raises(IncompatibleAdapters, match="shape"):
        engine.bank.add("x", make_adapter(1, dims={"model.layers.0.self_attn.q_proj": (32, 31)}))
    with pytest.raises(IncompatibleAdapters, match="Embedding"):
        engine.bank.add("x", make_adapter(1, dims={"model.embed_tokens": (258, 32)}))
    dora = make_adapter(1)
    factors = {
        n: replace(f, magnitude=np.ones(f.d_out, np.float32)) for n, f in dora.factors.items()
    }
    with pytest.raises(IncompatibleAdapters, match="DoRA"):
        engine.bank.add("x", Adapter(factors))
    assert not engine.bank.has("x")
    with pytest.raises(NotFound, match="x"):
        engine.bank.gather([one("x")])


def test_closing_takes_every_hook_off(engine, make_adapter):
    bank = AdapterBank(engine.bank.modules)
    layer = engine.model.model.layers[0].self_attn.q_proj
    before = len(layer._forward_hooks)
    bank.add("a", make_adapter(1))
    assert len(layer._forward_hooks) == before + 1
    bank.close()
    assert len(layer._forward_hooks) == before


def test_linear_layers_are_listed_with_their_sizes(engine):
    modules = adaptable_modules(engine.bank.modules)
    assert modules["model.layers.1.mlp.down_proj"] == (48, 32)
    assert "model.embed_tokens" not in modules
