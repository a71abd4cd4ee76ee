"""Fitting token routers beside a frozen model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lora_studio.composition.router_weights import (
    RouterWeights,
    load_router,
    router_for,
    save_router,
)
from lora_studio.composition.token_router import fitted_rules
from lora_studio.engines.router_parts import RouterParts
from lora_studio.engines.text import TextEngine
from lora_studio.errors import Cancelled, InvalidRequest
from lora_studio.fitted import paths
from lora_studio.training.token_router import RouterSpec, fit_router
from tests.tiny_models import random_adapter, save_model
from tests.unit.engines.test_adapter_bank import fingerprint

SPEC = RouterSpec(steps=25, rate=0.03, batch=6, samples=4, answer=6, among=2, drop=0.0)
SAMPLES = {
    "a": ["abc", "bca", "cab", "aab"],
    "b": ["xyz", "yzx", "zxy", "xxz"],
    "c": ["123", "231", "312", "122"],
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return TextEngine(save_model("llama", tmp_path_factory.mktemp("llama")), "cpu", 8)


@pytest.fixture(scope="module")
def adapters():
    return {name: random_adapter(i, rank=1 + i) for i, name in enumerate("abc")}


@pytest.mark.parametrize("rule", fitted_rules())
def test_it_learns_to_hear_the_right_adapter_and_leaves_the_base_alone(engine, adapters, rule):
    before = fingerprint(engine.model)
    found = fit_router(engine, adapters, SAMPLES, replace(SPEC, rule=rule))
    assert found.facts["loss"]["after"] < 0.8 * found.facts["loss"]["before"]
    assert found.facts["lessons"] == 12
    assert fingerprint(engine.model) == before
    assert all(p.grad is None for p in engine.model.parameters())
    if rule == "router_lora":
        assert set(found.queries) == {m for a in adapters.values() for m in a.factors}
        assert not found.keys
    else:
        assert set(found.keys) == set(adapters)
    engine.bank.routers = RouterParts(engine.base)


def test_a_seed_makes_the_same_router_again(engine, adapters):
    few = replace(SPEC, steps=3)
    one, two = (fit_router(engine, adapters, SAMPLES, few) for _ in range(2))
    for module, (a, b) in one.queries.items():
        assert np.array_equal(a, two.queries[module][0])
        assert np.array_equal(b, two.queries[module][1])


def test_balancing_raises_what_is_chosen_too_seldom(engine, adapters):
    spec = replace(SPEC, rule="smora", steps=4, balance=0.01)
    found = fit_router(engine, adapters, SAMPLES, spec)
    biases = np.concatenate([k[:, -1] for rows in found.keys.values() for k in rows.values()])
    assert (biases > 0).any()
    assert (biases < 0).any()
    assert np.abs(biases).max() <= 0.04 + 1e-6
    still = fit_router(engine, adapters, SAMPLES, replace(spec, balance=0.0))
    assert all((k[:, -1] == 0).all() for rows in still.keys.values() for k in rows.values())


def test_it_stops_when_asked_and_says_how_far_it_is(engine, adapters):
    told = []

    def check():
        if len(told) > 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        fit_router(engine, adapters, SAMPLES, SPEC, lambda f, m: told.append((f, m)), check)
    assert told[0][0] == 0.0
    assert "loss" in told[1][1]
    assert torch.is_grad_enabled()


def test_what_cannot_be_fitted_is_said(engine, adapters):
    with pytest.raises(InvalidRequest, match="nothing to fit"):
        fit_router(engine, adapters, SAMPLES, RouterSpec(rule="arrow"))
    with pytest.raises(InvalidRequest, match="two or more"):
        fit_router(engine, adapters, {"a": ["abc"]}, SPEC)


def test_a_file_holds_it_and_the_studios_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LORA_STUDIO_DATA", str(tmp_path / "data"))
    base = tmp_path / "base"
    (base / "fitted").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pair = (rng.normal(size=(2, 4)).astype("f"), rng.normal(size=(3, 2)).astype("f"))
    shipped = RouterWeights("router_lora", {"m.q": pair}, facts={"who": "shipped"})
    own, beside = paths("router_lora", str(base))
    save_router(shipped, beside)
    found = router_for(str(base), "router_lora")
    assert found
    assert found.facts["who"] == "shipped"
    assert np.allclose(found.queries["m.q"][1], pair[1], atol=2e-3)
    save_router(replace(shipped, facts={"who": "own"}), own)
    again = router_for(str(base), "router_lora")
    assert again
    assert again.facts["who"] == "own"
    assert router_for(str(base), "smora") is None
    beside.write_bytes(b"no router")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_router(beside)
