"""Every dialect says the same as the PEFT layers it was written from."""

import json

import numpy as np
import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.tuners.lora.dora import DoraLinearLayer
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import nn

from lora_studio.demo.image.dialects import write_weights
from lora_studio.demo.image.raw import load_raw, save_raw

TARGETS = r".*(to_q|to_k|to_v|to_out\.0|conv1|proj_in)$"
ATTENTION = "down_blocks.0.attentions.0.attn1"
RESNET = "down_blocks.0.resnets.0"


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k = nn.Linear(16, 16, bias=False), nn.Linear(24, 16, bias=False)
        self.to_v = nn.Linear(24, 16, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(16, 16), nn.Dropout(0.0)])


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        attention = nn.Module()
        attention.attn1, attention.proj_in = Attention(), nn.Conv2d(16, 16, 1)
        self.attentions, self.resnets = nn.ModuleList([attention]), nn.ModuleList([Resnet()])


class Unet(nn.Module):
    """Module names as in a UNet, a few numbers each; PEFT needs no more."""

    def __init__(self):
        super().__init__()
        self.down_blocks = nn.ModuleList([Block()])


@pytest.fixture
def trained(tmp_path):
    def train(config):
        torch.manual_seed(5)
        unet = Unet()
        inject_adapter_in_model(config, unet, "default")
        for name, weight in unet.named_parameters():
            if any(mark in name for mark in ("lora_A", "lora_B", "hada", "lokr")):
                weight.data = torch.randn_like(weight) * 0.2
            elif "magnitude" in name:
                weight.data = weight.data * (1 + 0.1 * torch.rand_like(weight))
        save_raw(tmp_path / "raw", "unet", unet, "default")
        return unet, load_raw(tmp_path / "raw")

    return train


def peft_deltas(unet):
    return {
        name: module.get_delta_weight("default").detach().flatten(1).numpy()
        for name, module in unet.named_modules()
        if hasattr(module, "get_delta_weight") and not isinstance(module, DoraLinearLayer)
    }


def kohya_groups(path):
    groups = {}
    for key, value in load_file(path).items():
        name, _, tensor = key.partition(".")
        groups.setdefault(name, {})[tensor] = value.astype(np.float32)
    return groups


def flat(matrix):
    return matrix.reshape(len(matrix), -1)


def kohya_delta(tensors):
    """The formulas of kohya's trainer and of LyCORIS."""
    alpha = float(tensors["alpha"])
    if "lora_down.weight" in tensors:
        down, up = flat(tensors["lora_down.weight"]), flat(tensors["lora_up.weight"])
        return up @ down * alpha / len(down)
    if "hada_w1_a" in tensors:
        left = tensors["hada_w1_a"] @ tensors["hada_w1_b"]
        right = tensors["hada_w2_a"] @ tensors["hada_w2_b"]
        return left * right * alpha / len(tensors["hada_w1_b"])
    whole = "lokr_w1" in tensors and "lokr_w2" in tensors
    w1 = tensors.get("lokr_w1")
    w1 = tensors["lokr_w1_a"] @ tensors["lokr_w1_b"] if w1 is None else w1
    w2 = tensors.get("lokr_w2")
    w2 = tensors["lokr_w2_a"] @ tensors["lokr_w2_b"] if w2 is None else w2
    if w2.ndim == 4:
        w1 = w1[:, :, None, None]
    rank = len(tensors.get("lokr_w2_b", tensors.get("lokr_w1_b", [])))
    return flat(np.kron(w1, w2)) * (1.0 if whole else alpha / rank)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, lora_alpha=2, target_modules=TARGETS),
        LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=TARGETS,
            rank_pattern={"conv1": 6, "to_k": 2},
            alpha_pattern={"conv1": 3, "to_q": 1},
        ),
        LoHaConfig(r=3, alpha=2, target_modules=TARGETS),
        LoKrConfig(r=2, alpha=3, target_modules=TARGETS, decompose_factor=4),
        LoKrConfig(r=64, alpha=16, target_modules=TARGETS, decompose_factor=4),
    ],
    ids=["locon", "mixed", "loha", "lokr", "lokr-whole"],
)
def test_kohya_files_have_the_updates_of_peft(config, trained, tmp_path):
    unet, raw = trained(config)
    path = write_weights("kohya", raw, tmp_path / "out", "sample")
    groups, expected = kohya_groups(path), peft_deltas(unet)
    assert len(expected) == 6
    assert set(groups) == {f"lora_unet_{name.replace('.', '_')}" for name in expected}
    for name, delta in expected.items():
        found = kohya_delta(groups[f"lora_unet_{name.replace('.', '_')}"])
        assert np.abs(found - delta).max() < 2e-3 * max(1.0, np.abs(delta).max()), name


def test_a_kohya_file_says_what_it_is_and_names_no_place(trained, tmp_path):
    _, raw = trained(LoHaConfig(r=3, alpha=2, target_modules=TARGETS))
    with safe_open(write_weights("kohya", raw, tmp_path / "out", "sample"), "np") as file:
        metadata = file.metadata()
    assert metadata["ss_network_module"] == "lycoris.kohya"
    assert json.loads(metadata["ss_network_args"]) == {"algo": "loha"}
    assert metadata["ss_network_dim"] == "3"
    assert "/" not in "".join(metadata.values())


def test_dora_keeps_its_magnitudes(trained, tmp_path):
    unet, raw = trained(LoraConfig(r=4, lora_alpha=4, use_dora=True, target_modules=TARGETS))
    groups = kohya_groups(write_weights("kohya", raw, tmp_path / "out", "sample"))
    conv = groups[f"lora_unet_{RESNET.replace('.', '_')}_conv1"]["dora_scale"]
    linear = groups[f"lora_unet_{ATTENTION.replace('.', '_')}_to_q"]["dora_scale"]
    assert conv.shape == (16, 1, 1, 1)
    assert linear.shape == (16, 1)
    layer = unet.get_submodule(f"{ATTENTION}.to_q")
    learned = layer.lora_magnitude_vector["default"].weight.detach().numpy()
    assert np.allclose(linear[:, 0], learned, atol=1e-3)


def test_a_peft_folder_loads_with_peft(trained, tmp_path):
    from peft import PeftModel

    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, rank_pattern={"conv1": 6})
    unet, raw = trained(config)
    write_weights("peft", raw, tmp_path / "out", "sample")
    loaded = PeftModel.from_pretrained(Unet(), str(tmp_path / "out"))
    again = peft_deltas(loaded.base_model.model)
    for name, delta in peft_deltas(unet).items():
        assert np.allclose(again[name], delta, atol=3e-3), name


def test_diffusers_keys_name_component_and_module(trained, tmp_path):
    unet, raw = trained(LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    path = write_weights("diffusers", raw, tmp_path / "out", "sample")
    tensors = load_file(path)
    key = f"unet.{ATTENTION}.to_out.0"
    up, down = tensors[f"{key}.lora_B.weight"], tensors[f"{key}.lora_A.weight"]
    expected = peft_deltas(unet)[f"{ATTENTION}.to_out.0"]
    assert np.allclose(2 * up.astype(np.float32) @ down.astype(np.float32), expected, atol=3e-3)
    with safe_open(path, "np") as file:
        described = json.loads(file.metadata()["lora_adapter_metadata"])
    assert described["unet.lora_alpha"] == 8


def test_attention_processor_keys_carry_the_scale_in_the_up_matrix(trained, tmp_path):
    targets = r".*(to_q|to_k|to_v|to_out\.0)$"
    unet, raw = trained(LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    tensors = load_file(write_weights("attention-processor", raw, tmp_path / "out", "sample"))
    assert not [key for key in tensors if "alpha" in key]
    for layer in ("to_q", "to_k", "to_v", "to_out"):
        key = f"unet.{ATTENTION}.processor.{layer}_lora"
        found = tensors[f"{key}.up.weight"].astype(np.float32) @ tensors[f"{key}.down.weight"]
        module = f"{ATTENTION}.{layer}" + (".0" if layer == "to_out" else "")
        assert np.allclose(found, peft_deltas(unet)[module], atol=3e-3)


def test_attention_processor_keys_refuse_what_they_cannot_name(trained, tmp_path):
    _, raw = trained(LoraConfig(r=4, target_modules=TARGETS))
    with pytest.raises(ValueError, match="cannot name"):
        write_weights("attention-processor", raw, tmp_path / "out", "sample")


def test_two_weight_files_in_a_folder_are_refused(trained, tmp_path):
    _, raw = trained(LoraConfig(r=4, target_modules=TARGETS))
    write_weights("diffusers", raw, tmp_path / "out", "sample")
    with pytest.raises(ValueError, match="other weights"):
        write_weights("kohya", raw, tmp_path / "out", "sample")
