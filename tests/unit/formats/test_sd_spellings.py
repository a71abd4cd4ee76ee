"""The many ways in which adapters of Stable Diffusion's UNets and text encoders are spelled."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.formats import load

Q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
CLIP = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
CLIP_2 = "text_encoder_2.text_model.encoder.layers.0.self_attn.out_proj"
PEFT, KOHYA = ("lora_A", "lora_B"), ("lora_down", "lora_up")
DOWN = ("down", "up")


@pytest.mark.parametrize(
    ("stem", "roles", "dialect", "module"),
    [
        (Q, PEFT, "diffusers", Q),
        (Q, KOHYA, "diffusers", Q),
        (Q.removeprefix("unet."), PEFT, "peft", Q),
        (f"base_model.model.{Q}", PEFT, "peft", Q),
        (Q.replace(".to_q", ".processor.to_q_lora"), DOWN, "attention-processor", Q),
        (
            Q.removeprefix("unet.").replace(".to_q", ".processor.to_q_lora"),
            DOWN,
            "attention-processor",
            Q,
        ),
        (OUT.replace(".to_out.0", ".processor.to_out_lora"), DOWN, "attention-processor", OUT),
        (f"{OUT}.lora", DOWN, "attention-processor", OUT),
        (f"{CLIP}.lora_linear_layer", DOWN, "attention-processor", CLIP),
        (CLIP.replace("q_proj", "to_q_lora"), DOWN, "attention-processor", CLIP),
        (CLIP_2.replace("out_proj", "to_out_lora"), DOWN, "attention-processor", CLIP_2),
        (CLIP.replace("text_model.", ""), PEFT, "diffusers", CLIP),
        (CLIP_2, PEFT, "diffusers", CLIP_2),
        (f"lora_{Q.replace('.', '_')}", KOHYA, "kohya", Q),
        (f"lora_unet_{Q.replace('.', '_')}", KOHYA, "kohya", Q),
        (f"lora_unet_{Q.replace('.', '_')}", PEFT, "kohya", Q),
        ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q", KOHYA, "kohya", Q),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", KOHYA, "kohya", CLIP),
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", KOHYA, "kohya", CLIP),
        ("lora_te2_text_model_encoder_layers_0_self_attn_out_proj", KOHYA, "kohya", CLIP_2),
        ("lora_te_text_encoder_text_model_encoder_layers_0_self_attn_q_proj", KOHYA, "kohya", CLIP),
        (
            "lora_te2_text_encoder_2_text_model_encoder_layers_0_self_attn_out_proj",
            KOHYA,
            "kohya",
            CLIP_2,
        ),
        (
            "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q",
            KOHYA,
            "original",
            Q,
        ),
        ("unet.input_blocks.1.1.transformer_blocks.0.attn1.to_q", KOHYA, "original", Q),
        (f"diffusion_model.{Q.removeprefix('unet.')}", PEFT, "original", Q),
        (f"clip_g.{CLIP_2.partition('.')[2]}", KOHYA, "original", CLIP_2),
        (f"text_encoders.clip_l.transformer.{CLIP.partition('.')[2]}", PEFT, "original", CLIP),
    ],
)
def test_a_spelling_is_of_one_dialect_and_means_one_module(tmp_path, stem, roles, dialect, module):
    a, b = np.ones((2, 6), np.float32), np.ones((4, 2), np.float32)
    path = tmp_path / "file.safetensors"
    save_file({f"{stem}.{roles[0]}.weight": a, f"{stem}.{roles[1]}.weight": b}, path)
    adapter = load(path).adapter
    assert list(adapter.factors) == [module]
    assert adapter.card.source_format == dialect
    assert adapter.factors[module].scaling == 1.0
