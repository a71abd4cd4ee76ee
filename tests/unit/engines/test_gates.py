"""Gates inside modules: the formula, the sum they start from, and their files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lora_studio.composition.gate import VECTORS, Gate, load_gate, save_gate
from lora_studio.engines.adapter_bank import AdapterBank, adaptable_modules
from lora_studio.engines.grouped_rows import GroupedRows
from lora_studio.errors import InvalidRequest
from tests.tiny_pipelines import random_adapter


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3, 1, 1), nn.Linear(5, 4)

    def forward(self, x):
        return self.second(self.first(x).flatten(2).mT)


@pytest.fixture
def bank():
    torch.manual_seed(0)
    model = Model().eval().requires_grad_(False)
    found = AdapterBank(dict(model.named_modules()), batched=False)
    dims = adaptable_modules(found.modules)
    for seed in (1, 2):
        found.add(str(seed), random_adapter(dims, seed))
    return found


def run(bank, module, x, gate, weights):
    pieces = bank.pieces(weights, ("",), gate)
    with bank.active(GroupedRows(((0, len(x), pieces),), len(x))):
        return bank.modules[module](x)


def vectors(seed, size):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=size).astype(np.float32) for name in VECTORS}


@pytest.mark.parametrize(("module", "size"), [("first", 5), ("second", 4)])
def test_each_update_passes_as_the_formula_says(bank, module, size):
    conv = module == "first"
    x = torch.randn(2, 3, 6, 6) if conv else torch.randn(2, 7, 5)
    gate = Gate({module: vectors(3, size)})
    base = run(bank, module, x, None, {})
    axis = 1 if conv else -1

    def normed(t):
        mean, variance = t.mean(axis, keepdim=True), t.var(axis, keepdim=True, correction=0)
        return (t - mean) / (variance + 1e-5).sqrt()

    shape = (-1, 1, 1) if conv else (-1,)
    v = {name: torch.from_numpy(a).view(shape) for name, a in gate.modules[module].items()}
    expected = base.clone()
    for name, weight in (("1", 0.5), ("2", -1.0)):
        own = run(bank, module, x, None, {name: weight}) - base
        a, b = normed(base), normed(own)
        opened = (a * v["base"] + b * v["lora"] + a * b * v["cross"] + v["bias"]).sigmoid()
        expected += v["out"] * opened * own
    found = run(bank, module, x, gate, {"1": 0.5, "2": -1.0})
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_zeros_and_an_output_of_two_are_the_sum(bank):
    start = {name: np.zeros(4, np.float32) for name in VECTORS} | {"out": np.full(4, 2.0)}
    x, weights = torch.randn(2, 7, 5), {"1": 0.5, "2": -1.0}
    gated = run(bank, "second", x, Gate({"second": start}), weights)
    torch.testing.assert_close(gated, run(bank, "second", x, None, weights))


def test_a_module_without_gate_lets_everything_pass(bank):
    x, weights = torch.randn(2, 3, 6, 6), {"1": 0.5}
    gate = Gate({"second": vectors(1, 4)})
    assert run(bank, "first", x, gate, weights).equal(run(bank, "first", x, None, weights))


def test_a_gate_survives_its_file(tmp_path):
    path = tmp_path / "deep" / "gate.safetensors"
    save_gate(Gate({"unet.a.to_q": vectors(1, 6)}, {"steps": 3}), path)
    back = load_gate(path)
    assert back.facts == {"steps": 3}
    for name, vector in vectors(1, 6).items():
        np.testing.assert_allclose(back.modules["unet.a.to_q"][name], vector, rtol=1e-3)


def test_what_is_no_gate_is_refused(tmp_path):
    path = tmp_path / "gate.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(InvalidRequest, match="cannot be read as a gate"):
        load_gate(path)
    save_gate(Gate({"unet.a": {"bias": np.zeros(3)}}), path)
    with pytest.raises(InvalidRequest, match="each module needs"):
        load_gate(path)
