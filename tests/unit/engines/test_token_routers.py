"""Routers that weigh adapters and units token by token, in batches of mixed plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import ArrowConfig, LoraConfig, create_arrow_model, get_peft_model
from transformers import AutoModelForCausalLM

from lora_studio.composition import compose
from lora_studio.composition.router_weights import RouterWeights
from lora_studio.composition.token_router import RULES, TokenRouter, router
from lora_studio.engines.router_parts import RouterParts
from lora_studio.engines.row_factors import RowFactors
from lora_studio.engines.rows import Row, RowPlan, Sampling
from lora_studio.errors import InvalidRequest
from tests.unit.engines.test_adapter_bank import IDS, logits

SHARE = {"share": "all", "active": 2.0, "unsure": 0.9, "mass": 0.8, "temperature": 1.0}
ROUTERS = {
    "arrow": router("arrow", **SHARE | {"share": "top_k", "temperature": 0.5}),
    "entropy": router("arrow", **SHARE | {"share": "entropy", "temperature": 0.3}),
    "self_activated": router("self_activated", units=4, temperature=0.0, least=0.05),
    "warm": router("self_activated", units=4, temperature=0.7, least=0.0),
    "router_lora": router("router_lora", **SHARE),
    "smora": router("smora", units=5),
    "meteora": router("meteora", **SHARE | {"share": "top_k"}),
}
SETS = ((("a", 1.0), ("b", -0.5)), (("c", 1.0), ("b", 0.5), ("a", 1.0)), (("a", 0.7),))


def fitted(engine, rule, scale=1.0):
    """Random parts of a rule for the engine's adapters."""
    rng = np.random.default_rng(5)
    bank, queries, keys = engine.bank, {}, {}
    for name in bank.ids:
        for module, piece in bank._resident[name].items():
            (rank, d_in), d_out = piece.A.shape, len(piece.B)
            rows = {"smora": (rank, d_in + 1), "meteora": (1, d_in)}.get(rule)
            if rows:
                keys.setdefault(name, {})[module] = rng.normal(size=rows) * scale
            a, b = rng.normal(size=(3, d_in)), rng.normal(size=(d_out, 3)) * scale
            queries[module] = (a, b)
    return RouterWeights(rule, queries if rule == "router_lora" else {}, keys)


@pytest.fixture
def equipped(engine):
    for rule in ("router_lora", "smora", "meteora"):
        engine.bank.routers.equip(fitted(engine, rule))
    yield engine
    engine.bank.routers = RouterParts(engine.base)


@pytest.mark.parametrize("rule", ROUTERS)
def test_a_row_is_weighed_in_a_batch_as_alone(equipped, rule):
    plans = [RowPlan(terms, router=ROUTERS[rule]) for terms in SETS]
    together = logits(equipped, plans)
    for place, plan in enumerate(plans):
        alone = logits(equipped, [plan], IDS[place : place + 1])
        assert torch.allclose(together[place], alone[0], atol=1e-4)
    same = logits(equipped, [plans[0]] * 3)
    assert torch.allclose(same[0], together[0], atol=1e-4)


def test_rules_and_plans_of_all_kinds_share_a_batch(equipped):
    terms = SETS[1]
    plans = [
        RowPlan(terms, router=ROUTERS["smora"]),
        RowPlan(terms),
        RowPlan(terms, router=ROUTERS["arrow"]),
    ]
    together = logits(equipped, plans)
    for place, plan in enumerate(plans):
        alone = logits(equipped, [plan], IDS[place : place + 1])
        assert torch.allclose(together[place], alone[0], atol=1e-4)
    assert not torch.allclose(together[0], logits(equipped, [RowPlan(terms)])[0], atol=1e-2)


@pytest.mark.parametrize("rule", [r for r in ROUTERS if r != "smora"])
def test_one_adapter_alone_acts_in_full(equipped, rule):
    whole = RowPlan((("b", 1.0),))
    chosen = ROUTERS[rule]
    if rule in ("self_activated", "warm"):
        chosen = router("self_activated", units=7, temperature=0.0, least=0.0)
    routed = RowPlan((("b", 1.0),), router=chosen)
    assert torch.allclose(logits(equipped, [routed]), logits(equipped, [whole]), atol=1e-4)


@pytest.mark.parametrize("rule", ROUTERS)
def test_the_order_of_adapters_does_not_matter(equipped, rule):
    left = logits(equipped, [RowPlan(SETS[1], router=ROUTERS[rule])])
    right = logits(equipped, [RowPlan(SETS[1][::-1], router=ROUTERS[rule])])
    assert torch.allclose(left, right, atol=1e-4)


def test_a_router_lora_that_asks_nothing_is_the_mixture(equipped):
    equipped.bank.routers.equip(fitted(equipped, "router_lora", scale=0.0))
    names = ("a", "b", "c")
    routed = RowPlan(tuple((n, 1.0) for n in names), router=ROUTERS["router_lora"])
    mixture = RowPlan(tuple((n, 1 / 3) for n in names))
    assert torch.allclose(logits(equipped, [routed]), logits(equipped, [mixture]), atol=1e-5)


def test_a_router_lora_attends_to_what_each_adapter_adds(equipped):
    """The layer's formula written out for one module."""
    seen = {}
    plan = RowPlan((("a", 1.0), ("b", 1.0)), router=ROUTERS["router_lora"])
    factors = equipped.bank.gather([plan])
    module = "model.layers.0.self_attn.q_proj"
    rows = factors.modules[module]
    x = torch.randn(1, 4, 32)
    seen = rows.add_to(x, torch.zeros(1, 4, 32))
    query = equipped.bank.routers._fitted["router_lora"].queries[module]
    a, b = (torch.from_numpy(np.asarray(v, np.float32)) for v in query)
    pieces = [equipped.bank._resident[name][module] for name in "ab"]
    outputs = torch.stack([x @ p.A.T @ p.B.T for p in pieces])  # (2, 1, 4, 32)
    asked = x @ a.T @ b.T
    shares = ((outputs * asked).sum(-1) / 3**0.5).softmax(0)
    assert torch.allclose(seen, (shares[..., None] * outputs).sum(0), atol=1e-4)


def test_a_gate_that_is_the_same_within_each_adapter_is_a_mixture_of_whole_adapters(equipped):
    """SMoRA's equivalence: block activation inside one large LoRA is an MoE of adapters."""
    keys, rng = {}, np.random.default_rng(1)
    for name, factors in equipped.bank._resident.items():
        one = {m: rng.normal(size=(1, p.A.shape[1] + 1)) / 9 for m, p in factors.items()}
        keys[name] = {m: np.repeat(v, len(factors[m].A), axis=0) for m, v in one.items()}
    equipped.bank.routers.equip(RouterWeights("smora", keys=keys))
    module = "model.layers.0.self_attn.q_proj"
    x = torch.randn(1, 4, 32)
    terms = (("a", 1.0), ("b", 1.0))
    found = equipped.bank.gather([RowPlan(terms, router=router("smora", units=9))])
    got = found.modules[module].add_to(x, torch.zeros(1, 4, 32))
    pieces = [equipped.bank._resident[name][module] for name in "ab"]
    rows = [torch.from_numpy(keys[n][module][0]).float() for n in "ab"]
    u = torch.stack([(x @ k[:-1]).sigmoid() + k[-1] for k in rows])  # (2, 1, 4)
    total = sum(len(p.A) * u[i] for i, p in enumerate(pieces))
    wanted = sum((9 * u[i] / total)[..., None] * (x @ p.A.T @ p.B.T) for i, p in enumerate(pieces))
    assert torch.allclose(got, wanted, atol=1e-5)


def test_the_bias_of_a_smora_gate_chooses_who_acts(equipped):
    keys = {}
    for name, factors in equipped.bank._resident.items():
        high = 1.0 if name == "b" else 0.0
        keys[name] = {
            m: np.c_[np.zeros((len(p.A), p.A.shape[1])), np.full(len(p.A), high)]
            for m, p in factors.items()
        }
    equipped.bank.routers.equip(RouterWeights("smora", keys=keys))
    terms = (("a", 1.0), ("b", 1.0))
    routed = logits(equipped, [RowPlan(terms, router=router("smora", units=7))])
    assert torch.allclose(routed, logits(equipped, [RowPlan((("b", 1.0),))]), atol=1e-4)


def test_silence_is_the_base_model(equipped):
    mute = router("self_activated", units=4, temperature=0.0, least=1.0)
    plan = RowPlan((("a", 1.0), ("b", 1.0)), router=mute)
    assert torch.allclose(logits(equipped, [plan]), logits(equipped, [RowPlan()]), atol=1e-4)


def test_self_activation_is_the_same_however_a_unit_is_written(equipped, make_adapter):
    adapter = make_adapter(1, rank=2)
    turned = {
        n: replace(f, A=f.A * np.array([[-3.0], [0.2]], "f"), B=f.B / np.array([-3.0, 0.2], "f"))
        for n, f in adapter.factors.items()
    }
    equipped.bank.add("turned", replace(adapter, factors=turned))
    rule = ROUTERS["warm"]
    left = logits(equipped, [RowPlan((("a", 1.0), ("b", 1.0)), router=rule)])
    right = logits(equipped, [RowPlan((("turned", 1.0), ("b", 1.0)), router=rule)])
    assert torch.allclose(left, right, atol=1e-4)


def test_rows_that_join_and_leave_keep_their_routers(equipped):
    plans = [RowPlan(terms, router=ROUTERS[r]) for terms in SETS for r in ("arrow", "smora")]
    plans += [RowPlan(SETS[0]), RowPlan()]
    rows = [
        Row(str(i), "abc" * (i + 1), plan, Sampling(max_new_tokens=3 + 2 * i))
        for i, plan in enumerate(plans)
    ]
    together = equipped.generate(rows).rows  # more rows than places: they join as others end
    for row, found in zip(rows, together, strict=True):
        assert equipped.generate([row]).rows[0].token_ids == found.token_ids


def test_joining_and_selecting_is_gathering(equipped):
    plans = [RowPlan(terms, router=ROUTERS[r]) for terms in SETS for r in ("meteora", "warm")]
    plans.append(RowPlan((("c", 1.0),)))
    bank, module = equipped.bank, "model.layers.1.mlp.down_proj"

    def out(factors: RowFactors, n: int) -> torch.Tensor:
        torch.manual_seed(3)
        x = torch.randn(1, 2, 48).expand(n, -1, -1)
        rows = factors.modules[module]
        return rows.add_to(x, torch.zeros(n, 2, 32))

    whole = out(bank.gather(plans), len(plans))
    joined = bank.gather(plans[:3]).join(bank.gather(plans[3:]))
    assert torch.allclose(out(joined, len(plans)), whole, atol=1e-5)
    few = joined.select([5, 1])
    assert torch.allclose(out(few, 2), whole[[5, 1]], atol=1e-5)
    twice = bank.gather(plans[:1]).join(bank.gather(plans[:1]))
    assert torch.allclose(out(twice, 2), whole[[0, 0]], atol=1e-5)


def test_who_was_not_fitted_is_named(engine):
    with pytest.raises(InvalidRequest, match="train-router"):
        engine.bank.gather([RowPlan((("a", 1.0),), router=ROUTERS["router_lora"])])
    engine.bank.routers.equip(RouterWeights("smora", keys={"a": {}}))
    with pytest.raises(InvalidRequest, match="fitted without adapter b"):
        engine.bank.gather([RowPlan((("b", 1.0),), router=ROUTERS["smora"])])


@pytest.mark.parametrize("rule", [r for r in RULES.names() if r != "even"])
def test_a_plan_carries_its_router_through_json(rule, make_adapter):
    adapters = [make_adapter(1), make_adapter(2)]
    plan = compose(rule, adapters)
    row = plan.row({})
    assert row.router
    assert row.router.rule == rule
    assert TokenRouter.from_dict(row.router.to_dict()) == row.router
    assert {weight for _, weight in row.terms} == {1.0}
    with pytest.raises(InvalidRequest, match="finite"):
        TokenRouter.from_dict({"rule": rule, "params": {"units": float("nan")}})


@pytest.mark.parametrize("top_k", [1, 2])
def test_arrow_is_peft_arrow(engine, model_folder, make_adapter, tmp_path, top_k):
    adapters = {}
    for seed in (11, 12, 13):
        adapter = make_adapter(seed, rank=2)
        first = np.array([[5.0], [0.2]], "f")  # its power iteration stops after 15 steps
        clear = {n: replace(f, A=f.A * first) for n, f in adapter.factors.items()}
        adapters[seed] = replace(adapter, factors=clear)
        engine.bank.add(str(seed), adapters[seed])
    targets = sorted({name.rpartition(".")[2] for name in adapters[11].factors})
    paths = []
    for seed in (11, 12, 13):
        base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
        config = LoraConfig(r=2, lora_alpha=2, target_modules=targets)
        model = get_peft_model(base, config)
        with torch.no_grad():
            for name, factors in adapters[seed].factors.items():
                layer = model.base_model.model.get_submodule(name)
                folded = factors.folded()
                layer.lora_A["default"].weight.copy_(torch.from_numpy(folded.A))
                layer.lora_B["default"].weight.copy_(torch.from_numpy(folded.B))
        model.save_pretrained(tmp_path / str(seed))
        paths.append(str(tmp_path / str(seed)))
    base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    config = ArrowConfig(top_k=top_k, router_temperature=0.7, rng_seed=1)
    theirs = create_arrow_model(base, paths, config).eval()
    how = SHARE | {"share": "top_k", "active": top_k, "temperature": 0.7}
    plan = RowPlan(tuple((str(s), 1.0) for s in (11, 12, 13)), router=router("arrow", **how))
    with torch.inference_mode():
        wanted = theirs(input_ids=IDS).logits
    near = (logits(engine, [plan] * 3) - wanted).norm() / wanted.norm()
    assert near < 1e-4
