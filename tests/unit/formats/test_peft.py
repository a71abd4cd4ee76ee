import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import canonical, load, load_adapter, save_adapter
from tests.conftest import build_adapter
from tests.deltas import deltas, distance


def write_folder(folder, tensors, config):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def two_modules(rank=4, other=4):
    rng = np.random.default_rng(0)
    tensors = {}
    for name, r in (("layers.0.q_proj", rank), ("layers.1.q_proj", other)):
        stem = f"base_model.model.{name}"
        tensors[f"{stem}.lora_A.weight"] = rng.normal(size=(r, 6)).astype(np.float32)
        tensors[f"{stem}.lora_B.weight"] = rng.normal(size=(5, r)).astype(np.float32)
    return tensors


def scalings(path):
    return {n: m.scaling for n, m in load_adapter(path).factors.items()}


def test_scaling_follows_alpha_rslora_and_alpha_pattern(tmp_path):
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    plain = write_folder(tmp_path / "plain", two_modules(), config)
    assert set(scalings(plain).values()) == {2.0}
    rs = write_folder(tmp_path / "rs", two_modules(), {**config, "use_rslora": True})
    assert set(scalings(rs).values()) == {4.0}
    patterned = {**config, "alpha_pattern": {"layers.1.q_proj": 2}, "rank_pattern": {"1.q": 16}}
    mixed = write_folder(tmp_path / "mixed", two_modules(4, 16), patterned)
    assert scalings(mixed) == {"layers.0.q_proj": 2.0, "layers.1.q_proj": 0.125}


def test_saving_and_loading_keeps_every_update_and_the_id(tmp_path):
    adapter = build_adapter(1, rank=3, scaling=2.0, title="Past tense", samples=["a", "b"])
    again = load_adapter(save_adapter(adapter, tmp_path / "out"))
    assert distance(deltas(again), deltas(adapter)) < 1e-6
    assert again.id == adapter.id
    assert again.card.title == "Past tense"
    assert again.card.samples == ("a", "b")


def test_mixed_ranks_are_written_as_patterns(tmp_path):
    rng = np.random.default_rng(0)
    factors = {
        f"layers.{i}.q": LoraFactors(
            rng.normal(size=(r, 6)).astype("f"), rng.normal(size=(5, r)).astype("f")
        )
        for i, r in enumerate((2, 2, 5))
    }
    save_adapter(Adapter(factors, AdapterCard(base_model="b")), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"]) == (2, {"layers.2.q": 5})
    assert config["alpha_pattern"] == {"layers.2.q": 5}


def test_the_canonical_blob_is_the_same_for_the_same_adapter(tmp_path):
    adapter = build_adapter(2, scaling=0.5)
    assert canonical.dump(adapter) == canonical.dump(adapter.folded())
    (tmp_path / "blob").write_bytes(canonical.dump(adapter))
    assert canonical.read(tmp_path / "blob").id == adapter.id


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "VERA"}, "is that of VERA"),
        ({"peft_type": "OFT"}, "OFT adapter.*turns the base"),
        ({"lora_alpha": float("nan")}, "NaN, which is no number"),
        ({"lora_alpha": 1e300}, "expected a number above 0"),
        ({"lora_alpha": "8"}, "not a number"),
        ({"alpha_pattern": {"(a+)+$": 4}}, "regular expression"),
    ],
)
def test_configs_that_cannot_be_trusted_are_refused(tmp_path, config, message):
    folder = write_folder(tmp_path, two_modules(), config)
    with pytest.raises(InvalidAdapter, match=message):
        load_adapter(folder)


def test_dangerous_config_fields_are_never_obeyed(tmp_path):
    hostile = {"r": 2**24, "target_modules": "(a+)+$", "exclude_modules": "(a|a)*$"}
    folder = write_folder(tmp_path, two_modules(), {"lora_alpha": 4, **hostile})
    assert set(scalings(folder).values()) == {1.0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"init_lora_weights": "pissa"}, "started by PiSSA.*plain LoRA"),
        ({"init_lora_weights": "pissa_niter_10000000"}, "started by PiSSA"),
        ({"layer_replication": [[0, 9]] * 99}, "layers are repeated"),
    ],
)
def test_fields_by_which_the_factors_are_not_the_update_are_refused(tmp_path, config, message):
    with pytest.raises(InvalidAdapter, match=message):
        load_adapter(write_folder(tmp_path, two_modules(), config))


def test_tensors_that_are_not_lora_are_named(tmp_path):
    tensors = {**two_modules(), "base_model.model.lm_head.weight": np.zeros((3, 3), np.float32)}
    with pytest.raises(InvalidAdapter, match="lm_head"):
        load_adapter(write_folder(tmp_path, tensors, {}))


def test_a_factor_without_its_partner_is_named(tmp_path):
    tensors = two_modules()
    del tensors["base_model.model.layers.1.q_proj.lora_B.weight"]
    with pytest.raises(InvalidAdapter, match=r"missing for 'layers\.1\.q_proj'"):
        load_adapter(write_folder(tmp_path, tensors, {}))


def test_not_finite_values_are_refused(tmp_path):
    tensors = two_modules()
    tensors["base_model.model.layers.0.q_proj.lora_A.weight"][0, 0] = np.inf
    with pytest.raises(InvalidAdapter, match="NaN or infinity"):
        load_adapter(write_folder(tmp_path, tensors, {}))


def test_a_bare_file_says_that_its_alpha_is_assumed(tmp_path):
    save_file(two_modules(), tmp_path / "my.safetensors")
    loaded = load(tmp_path / "my.safetensors")
    assert "alpha is taken as equal to the rank" in loaded.report[0]
    assert loaded.adapter.card.title == "my"


def test_test_prompts_come_along(tmp_path):
    folder = write_folder(tmp_path, two_modules(), {})
    (folder / "test.jsonl").write_text('{"prompt": "p", "target": "t"}\nnot json\n{"a": 1}\n')
    assert load(folder).tests == [{"prompt": "p", "target": "t"}]
