"""The recipes run from nothing, repeat themselves, and make what they promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lora_studio.demo.adapters import load_base, save_adapter, train_adapter
from lora_studio.demo.base import BaseSpec, build_base
from lora_studio.demo.derived import derive
from lora_studio.demo.specs import AdapterSpec, adapter_specs

SPECS = {spec.name: spec for spec in adapter_specs()}
SMALL = BaseSpec(
    hidden=32, intermediate=64, layers=2, heads=2, steps=6, batch=16, tokenizer_documents=500
)


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    facts = build_base(folder, "cpu", SMALL)
    assert facts["documents"] == 96
    return folder


def trained(folder: Path, spec: AdapterSpec, into: Path) -> dict[str, torch.Tensor]:
    model, tokenizer = load_base(folder, "cpu")
    save_adapter(train_adapter(model, tokenizer, spec, "cpu").model, into)
    return load_file(into / "adapter_model.safetensors")


def short(name: str, **changes: Any) -> AdapterSpec:
    return replace(SPECS[name], steps=3, batch=4, samples=20, **changes)


def test_a_rebuilt_adapter_is_the_same(small_base: Path, tmp_path: Path) -> None:
    spec = short("good-neighbour-past")
    first = trained(small_base, spec, tmp_path / "one")
    again = trained(small_base, spec, tmp_path / "two")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    configs = [(tmp_path / n / "adapter_config.json").read_text() for n in ("one", "two")]
    assert configs[0] == configs[1]


def test_shared_seeds_start_from_one_a_and_own_seeds_do_not(
    small_base: Path, tmp_path: Path
) -> None:
    names = ("shared-seed-past", "shared-seed-french", "plain-french")
    past, french, own = (
        trained(small_base, short(name, rate=1e-6), tmp_path / name) for name in names
    )
    for name in (n for n in past if ".lora_A." in n):
        assert torch.allclose(past[name], french[name], atol=1e-3)
        assert not torch.allclose(own[name], french[name], atol=1e-2)


def test_copies_are_near_and_noise_is_as_large(small_base: Path, tmp_path: Path) -> None:
    source = trained(small_base, short("plain-past"), tmp_path / "source")
    for kind in ("copy-past", "noise-french"):
        derive(SPECS[kind], tmp_path / "source", tmp_path / kind)
    copy = load_file(tmp_path / "copy-past" / "adapter_model.safetensors")
    noise = load_file(tmp_path / "noise-french" / "adapter_model.safetensors")
    for name in (n for n in source if ".lora_A." in n):
        partner = name.replace(".lora_A.", ".lora_B.")
        update = source[partner].float() @ source[name].float()  # (d_out, d_in)
        near = 0.5 * (copy[partner].float() @ copy[name].float())  # half the alpha
        assert (near - update).norm() <= 0.1 * update.norm()
        far = noise[partner].float() @ noise[name].float()
        assert float(far.norm()) == pytest.approx(float(update.norm()), rel=0.02)
        assert abs((far * update).sum()) < 0.5 * update.norm() ** 2
