"""Shapes of the pipeline's modules and where the image demo lives; SD 1.5's layout, made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_studio.settings import assets_dir

NAME = "lora-studio-demo-image"
"""Name of the embedded image base model wherever a base model is named."""
MAX_TOKENS = 24
STEPS, GUIDANCE = 20, 4.0
"""Denoising steps and guidance scale that the demo is made and measured with."""

VAE: dict[str, Any] = {
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
}
UNET: dict[str, Any] = {
    "sample_size": 16,
    "layers_per_block": 2,
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_TOKENS,
    "projection_dim": 64,
}
NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}


def demo_folder() -> Path:
    """The folder of the embedded image demo."""
    return assets_dir() / "demo" / "image"


def build_folder() -> Path:
    """Where the build keeps what is not shipped: pictures, latents, PEFT state dicts."""
    return assets_dir().parent / ".build" / "demo-image"
