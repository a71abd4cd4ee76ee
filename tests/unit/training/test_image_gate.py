"""Fitting a gate on a tiny pipeline: it learns to keep the others out, and leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_studio.composition.gate import VECTORS
from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.image import ImageEngine
from lora_studio.errors import Cancelled, InvalidRequest
from lora_studio.training.image_gate import GateSpec, fit_gate
from tests.tiny_pipelines import random_adapter, save_pipeline

SPEC = GateSpec(steps=40, prompts=2, batch=2, run=4, kept=(0, 2), measured=8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    found = ImageEngine(str(save_pipeline("sd1", tmp_path_factory.mktemp("sd1"))), "cpu")
    yield found
    found.close()


@pytest.fixture
def sources(engine):
    modules = adaptable_modules(engine.bank.modules)
    some = {n: d for n, d in modules.items() if n.startswith("unet.") and "attn" in n}
    adapters = {str(seed): random_adapter(some, seed) for seed in (1, 2)}
    words = {"1": ("a cat", "a big cat"), "2": ("a dog", "a big dog")}
    return {n: replace(a, card=replace(a.card, samples=words[n])) for n, a in adapters.items()}


def test_a_gate_learns_to_predict_as_the_one_adapter_that_was_asked_for(engine, sources):
    losses = []
    gate = fit_gate(engine, sources, SPEC, lambda share, text: losses.append(text))
    assert gate.facts["after"] < 0.8 * gate.facts["before"]
    assert set(gate.modules) == set(sources["1"].factors)
    assert all(set(v) == set(VECTORS) for v in gate.modules.values())
    assert losses[0] == "watching 1"
    assert engine.bank.ids == []


def test_the_same_seed_fits_the_same_gate(engine, sources):
    first, second = (fit_gate(engine, sources, replace(SPEC, steps=4)) for _ in range(2))
    for name, vectors in first.modules.items():
        for vector, values in vectors.items():
            np.testing.assert_array_equal(values, second.modules[name][vector])


def test_a_cancelled_fit_leaves_the_bank_empty(engine, sources):
    def check():
        raise Cancelled

    with pytest.raises(Cancelled):
        fit_gate(engine, sources, SPEC, check=check)
    assert engine.bank.ids == []


def test_adapters_without_samples_are_refused(engine, sources):
    bare = {n: replace(a, card=replace(a.card, samples=())) for n, a in sources.items()}
    with pytest.raises(InvalidRequest, match="two or more adapters with sample prompts"):
        fit_gate(engine, bare, SPEC)
