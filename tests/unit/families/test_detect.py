import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.families import detect, home_of
from lora_studio.families.family import FAMILIES

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
    assert bool(guess.evidence) == bool(family)


def test_the_weights_win_over_the_header_and_the_doubt_is_told():
    header = {"ss_base_model_version": "sdxl_base_v1-0"}
    guess = detect(adapter(**{UNET.format(0, "attn2.to_k"): (768, 640)}), header)
    assert guess.family == "sd1"
    assert "768 numbers" in guess.evidence[0]
    assert "Stable Diffusion XL" in guess.evidence[1]
    assert detect(adapter(**{UNET.format(0, "attn2.to_k"): (64, 32)}), header).family == ""


def test_every_image_family_has_a_home():
    assert all("/" in home_of(family.name) for family in FAMILIES)
    assert home_of("") == home_of("causal-lm") == ""
