"""Mixtures of LoRA experts are described and refused; LoRA of a base that routes is neither."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load_adapter
from lora_studio.formats.header import TensorInfo
from lora_studio.formats.reading import DIALECTS
from lora_studio.formats.routers import find

FIXTURES = sorted((Path(__file__).parents[2] / "state_dicts" / "mixtures").glob("*.json"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def infos(tensors):
    return {key: TensorInfo("F32", tuple(shape), 0, 0) for key, shape in tensors.items()}


def write(tensors, path):
    save_file({key: np.ones(shape, np.float32) for key, shape in tensors.items()}, path)
    return path


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_what_a_mixture_holds_is_found(path):
    fixture = read(path)
    found = find(infos(fixture["tensors"]))
    seen = found and {**found._asdict(), "ranks": list(found.ranks)}
    assert seen == fixture["found"]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_a_mixture_is_refused_with_what_it_is_and_why(path, tmp_path):
    fixture = read(path)
    file = write(fixture["tensors"], tmp_path / "file.safetensors")
    found = fixture["found"]
    if found is None:
        assert load_adapter(file).max_rank == 4
        return
    experts = f"up to {found['experts']} experts" if found["experts"] else "every rank an expert"
    with pytest.raises(InvalidAdapter, match=r"neither be merged") as refusal:
        load_adapter(file)
    text = str(refusal.value)
    assert found["name"] in text
    assert experts in text
    assert f"rank {found['ranks'][0]}" in text


def test_a_mixture_is_described_even_where_its_configuration_is_of_no_known_method(tmp_path):
    fixture = read(next(path for path in FIXTURES if path.stem == "mixlora"))
    write(fixture["tensors"], tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "MIXLORA"}')
    with pytest.raises(InvalidAdapter, match=r"\(MixLoRA\): routers in 2 layers"):
        load_adapter(tmp_path)


def test_fixtures_of_every_dialect_are_no_mixtures():
    for path in (Path(__file__).parents[2] / "state_dicts").glob("*.json"):
        assert find(infos(read(path)["tensors"])) is None, path.stem


def test_an_ordinary_adapter_named_by_a_number_is_none():
    tensors = {"q.lora_A.0.weight": [2, 6], "q.lora_B.0.weight": [4, 2]}
    assert find(infos(tensors)) is None
    keys = list(tensors)
    assert [d.NAME for d in DIALECTS if d.matches(keys, {})] == ["peft"]


def test_a_gate_projection_is_no_router():
    stem = "model.layers.0.mlp.gate_proj"
    assert find(infos({f"{stem}.lora_A.weight": [2, 6], f"{stem}.lora_B.weight": [4, 2]})) is None
