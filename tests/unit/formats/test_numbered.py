"""Adapters whose layers are numbered: the numbers are those of a walk through the real models."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.numpy import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load
from lora_studio.formats.sd1_order import (
    ATTENTION,
    CLASSES,
    GEGLU,
    enumerate_unet,
    text_layers,
    unet_layers,
)

OLD_NAMES = {"attention": ("CrossAttention", "Attention"), "geglu": ("GEGLU",)}
LIVE_NAMES = {"attention": "Attention", "geglu": "GEGLU", "resnet": "ResnetBlock2D"}


@pytest.fixture(scope="module")
def unet():
    with torch.device("meta"):  # Stable Diffusion 1.5's own configuration, without its weights
        return UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)


def walk(model, ancestors):
    """What the trainers did: every Linear and Conv2d below a module of one of the classes."""
    found = []
    for name, module in model.named_modules():
        if module.__class__.__name__ in ancestors:
            for inside, layer in module.named_modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    found.append((f"{name}.{inside}", tuple(layer.weight.shape)))
    return found


@pytest.mark.parametrize("classes", CLASSES, ids="+".join)
def test_the_order_of_today_is_that_of_the_real_unet(unet, classes):
    live = walk(unet, {LIVE_NAMES[name] for name in classes})
    assert [tuple(layer) for layer in enumerate_unet(classes, False, 768)] == live


def test_the_old_order_is_todays_with_each_geglu_between_its_attentions(unet):
    blocks = {}
    for name, shape in walk(unet, {"Attention", "GEGLU"}):
        block = name.split(".transformer_blocks.")[0]
        blocks.setdefault(block, []).append((name, shape))
    old = []
    for layers in blocks.values():
        old += [*layers[:4], layers[8], *layers[4:8]]  # attn1, ff, attn2
    assert [tuple(layer) for layer in enumerate_unet((ATTENTION, GEGLU), True, 768)] == old


def test_clips_attention_has_its_layers_in_the_order_we_say():
    with torch.device("meta"):
        config = CLIPTextConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=2)
        model = CLIPTextModel(config)
    live = [(name, shape) for name, shape in walk(model, {"CLIPAttention", "CLIPSdpaAttention"})]
    found = text_layers([((2, 24), (24, 2))] * len(live))
    names = [name if name.startswith("text_model.") else f"text_model.{name}" for name, _ in live]
    assert [layer.path for layer in found] == names


def pairs(classes, between, context, rank=1):
    for layer in enumerate_unet(classes, between, context):
        ones = (1,) * (len(layer.shape) - 2)
        yield (rank, *layer.shape[1:]), (layer.shape[0], rank, *ones)


@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize("context", [768, 1024])
@pytest.mark.parametrize("classes", CLASSES, ids="+".join)
def test_the_shapes_alone_tell_the_order(classes, between, context):
    found = unet_layers(list(pairs(classes, between, context)))
    expected = list(enumerate_unet(classes, between, context))
    assert [layer.path for layer in found] == [layer.path for layer in expected]


def write(folder, shapes, drop=(), extra=None):
    rng = np.random.default_rng(0)
    tensors = dict(extra or {})
    for number, (down, up) in enumerate(shapes):
        tensors[f"unet:{number}:down"] = rng.normal(size=down).astype(np.float32)
        tensors[f"unet:{number}:up"] = rng.normal(size=up).astype(np.float32)
    for key in drop:
        del tensors[key]
    path = folder / "numbered.safetensors"
    save_file(tensors, path, metadata={"unet": '["CrossAttention", "Attention", "GEGLU"]'})
    return path, tensors


def test_each_number_becomes_the_module_it_was_trained_on(tmp_path):
    path, tensors = write(tmp_path, pairs((ATTENTION, GEGLU), True, 768))
    adapter = load(path).adapter
    stem = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
    last = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    for number, name in ((0, f"{stem}.attn1.to_q"), (4, f"{stem}.ff.net.0.proj"), (143, last)):
        module = adapter.factors[name]
        np.testing.assert_array_equal(module.A, tensors[f"unet:{number}:down"])
        np.testing.assert_array_equal(module.B, tensors[f"unet:{number}:up"])
        assert module.scaling == 1.0
    assert len(adapter.factors) == 144


def test_words_beside_the_factors_are_set_aside_and_said(tmp_path):
    word = {"<s1>": np.ones(768, np.float32), "<s2>": np.ones((2, 768), np.float32)}
    path, _ = write(tmp_path, pairs((ATTENTION,), True, 768), extra=word)
    loaded = load(path)
    assert len(loaded.adapter.factors) == 128
    assert any("2 textual inversions ('<s1>', '<s2>')" in line for line in loaded.report)
    assert not any("alpha" in line for line in loaded.report)


def test_anything_else_beside_them_is_refused(tmp_path):
    for stranger in ({"unet:3:alpha": np.ones(768, np.float32)}, {"x": np.ones(5, np.float32)}):
        path, _ = write(tmp_path, pairs((ATTENTION,), True, 768), extra=stranger)
        with pytest.raises(InvalidAdapter, match="not LoRA factors"):
            load(path)


def test_a_missing_number_is_refused_since_all_after_it_would_be_wrong(tmp_path):
    path, _ = write(tmp_path, pairs((ATTENTION,), True, 768), drop=["unet:5:up"])
    with pytest.raises(InvalidAdapter, match="number 5 is missing"):
        load(path)


def test_sizes_of_another_model_are_refused(tmp_path):
    path, _ = write(tmp_path, list(pairs((ATTENTION,), True, 768))[:-1])
    with pytest.raises(InvalidAdapter, match="in no order"):
        load(path)
