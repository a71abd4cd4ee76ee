import json
from pathlib import Path

import diffusers as d
import numpy as np
import pytest
import torch
from torch import nn

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.families import cannot_run, detect, home_of
from lora_studio.families.family import FAMILIES
from lora_studio.families.known import KNOWN
from lora_studio.formats import load
from tests.reference_deltas import fill, write

FIXTURES = sorted((Path(__file__).parents[2] / "state_dicts").glob("*.json"))

UNET = "unet.down_blocks.1.attentions.0.transformer_blocks.{}.{}"
CLIP = "text_encoder{}.text_model.encoder.layers.0.self_attn.q_proj"


def adapter(**modules):
    """Zero factors; a module's value is its (d_in, d_out)."""
    factors = {
        name: LoraFactors(
            np.zeros((1, d_in), np.float32),
            np.zeros((d_out, 1), np.float32),
            component=name.partition(".")[0] if name.startswith(PARTS) else "model",
        )
        for name, (d_in, d_out) in modules.items()
    }
    return Adapter(factors, AdapterCard())


PARTS = (
    "unet.",
    "text_encoder",
    "transformer.transformer_blocks",
    "transformer.single",
    "transformer.layers",
    "transformer.blocks",
)


@pytest.mark.parametrize(
    ("modules", "family"),
    [
        ({UNET.format(0, "attn2.to_k"): (768, 640)}, "sd1"),
        ({UNET.format(0, "attn2.to_v"): (1024, 640)}, "sd2"),
        ({UNET.format(0, "attn2.to_k"): (2048, 640)}, "sdxl"),
        ({UNET.format(0, "attn2.to_k"): (64, 32)}, ""),
        ({UNET.format(0, "attn2.to_k"): (1280, 640)}, ""),
        ({UNET.format(7, "attn1.to_q"): (1280, 1280)}, "sdxl"),
        ({UNET.format(0, "attn1.to_q"): (640, 640)}, ""),
        ({CLIP.format(""): (768, 768), CLIP.format("_2"): (1280, 1280)}, "sdxl"),
        ({CLIP.format(""): (1024, 1024)}, "sd2"),
        ({CLIP.format(""): (768, 768)}, ""),
        ({CLIP.format(""): (64, 64)}, ""),
        ({"transformer.transformer_blocks.0.attn.to_q": (1536, 1536)}, "sd3"),
        ({"transformer.layers.0.attention.to_q": (3840, 3840)}, "z-image"),
        ({"transformer.layers.0.attention.to_q": (2304, 2304)}, ""),
        (
            {
                "transformer.transformer_blocks.0.attn.to_q": (3072, 3072),
                "transformer.single_transformer_blocks.0.attn.to_q": (3072, 3072),
            },
            "flux",
        ),
        ({"transformer.transformer_blocks.40.attn.to_q": (3072, 3072)}, "qwen-image"),
        ({"transformer.transformer_blocks.0.img_mlp.net.2": (12288, 3072)}, "qwen-image"),
        ({"transformer.transformer_blocks.3.attn.to_q": (3072, 3072)}, ""),
        ({"transformer.single_transformer_blocks.39.attn.to_q": (3072, 3072)}, "hunyuan-video"),
        ({"transformer.single_transformer_blocks.40.attn.to_q": (3072, 3072)}, ""),
        ({"transformer.blocks.0.attn1.to_q": (5120, 5120)}, "wan"),
        ({"transformer.blocks.0.attn1.to_q": (1024, 1024)}, ""),
        ({"transformer.transformer_blocks.0.attn1.to_q": (2048, 2048)}, "ltx-video"),
        ({"transformer.transformer_blocks.0.something": (3072, 3072)}, ""),
        ({"text_encoder_2.encoder.block.0.layer.0.SelfAttention.q": (4096, 4096)}, "flux"),
        ({"text_encoder_3.encoder.block.0.layer.0.SelfAttention.q": (4096, 4096)}, "sd3"),
        ({"transformer.h.0.attn.c_attn": (768, 2304)}, "causal-lm"),
    ],
)
def test_names_and_widths_tell_the_family(modules, family):
    assert detect(adapter(**modules)).family == family


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "sd2"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"ss_base_model_version": "sd_v1", "ss_v2": "False"}, "sd1"),
        ({"ss_v2": "True"}, "sd2"),
        ({"ss_v2": "False"}, ""),
        ({"modelspec.architecture": "<script>"}, ""),
    ],
)
def test_the_header_tells_where_the_weights_do_not(metadata, family):
    silent = adapter(**{UNET.format(0, "attn1.to_q"): (640, 640)})
    guess = detect(silent, metadata)
    assert guess.family == family
    assert ("header's" in guess.evidence[0]) == bool(family)


def test_the_weights_win_over_the_header_and_the_doubt_is_told():
    header = {"ss_base_model_version": "sdxl_base_v1-0"}
    guess = detect(adapter(**{UNET.format(0, "attn2.to_k"): (768, 640)}), header)
    assert guess.family == "sd1"
    assert "768 numbers" in guess.evidence[0]
    assert "Stable Diffusion XL" in guess.evidence[1]
    assert detect(adapter(**{UNET.format(0, "attn2.to_k"): (64, 32)}), header).family == ""


def test_the_header_decides_between_families_with_the_same_modules():
    modules = {"transformer.single_transformer_blocks.0.attn.to_q": (3072, 3072)}
    for version, family in (("chroma", "chroma"), ("flux1", "flux"), ("sdxl_base_v1-0", "flux")):
        guess = detect(adapter(**modules), {"ss_base_model_version": version})
        assert guess.family == family
    assert "Stable Diffusion XL all the same" in guess.evidence[-1]


REAL = {
    "flux": lambda: d.FluxTransformer2DModel(guidance_embeds=True),
    "sd3": lambda: d.SD3Transformer2DModel(
        num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=96
    ),
    "qwen-image": lambda: d.QwenImageTransformer2DModel(),
    "z-image": lambda: d.ZImageTransformer2DModel(),
    "wan": lambda: d.WanTransformer3DModel(),
    "hunyuan-video": lambda: d.HunyuanVideoTransformer3DModel(),
    "ltx-video": lambda: d.LTXVideoTransformer3DModel(),
}


@pytest.mark.parametrize("family", REAL)
def test_an_adapter_of_all_layers_of_the_real_model_is_of_its_family(family):
    with torch.device("meta"):
        model = REAL[family]()
    factors = {
        f"transformer.{name}": LoraFactors(
            np.zeros((1, module.in_features), np.float32),
            np.zeros((module.out_features, 1), np.float32),
            component="transformer",
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    guess = detect(Adapter(factors, AdapterCard()))
    assert guess.family == family
    assert len(guess.evidence) > 1
    known = KNOWN.get(family)
    depths = {stack: len(getattr(model, stack)) for stack in known.blocks}
    assert all(depths[stack] <= most for stack, most in known.blocks.items())


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_why_every_fixture_is_of_its_family_is_told(path, tmp_path):
    fixture = json.loads(path.read_text(encoding="utf-8"))
    loaded = load(write(fixture, fill(fixture), tmp_path).parent)
    guess = detect(loaded.adapter, loaded.metadata)
    said = " ".join(guess.evidence)
    assert said.endswith(".")
    if "family" in fixture:
        assert KNOWN.get(fixture["family"]).title in said
        assert "wide, like no known model's" in said


def test_what_cannot_be_run_is_told():
    assert all(not cannot_run(family.name) for family in FAMILIES)
    assert cannot_run("") == cannot_run("causal-lm") == ""
    assert "cannot run Wan" in cannot_run("wan")


def test_every_image_family_has_a_home():
    assert all("/" in home_of(family.name) for family in FAMILIES)
    assert home_of("") == home_of("causal-lm") == ""
