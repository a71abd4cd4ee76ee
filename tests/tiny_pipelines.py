"""Tiny random diffusers pipelines of each family, saved as ordinary folders, and random adapters
for their modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers as d
import numpy as np
import torch
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from tests.tiny_models import save_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 ,."


def clip_tokenizer() -> CLIPTokenizer:
    symbols = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: place for place, symbol in enumerate(symbols)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def clip(kind: type[nn.Module] = CLIPTextModel, width: int = 16) -> Any:
    size = 2 * len(LETTERS) + 2
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
        initializer_range=0.4,
    )
    return kind(config).eval()


def vae(channels: int = 4, shifted: bool = False) -> d.AutoencoderKL:
    return d.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        shift_factor=0.1 if shifted else None,
    )


def unet(**more: Any) -> d.UNet2DConditionModel:
    given: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return d.UNet2DConditionModel(**(given | more))


def ddim() -> d.DDIMScheduler:
    return d.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def bytes_tokenizer(folder: Path, **more: Any) -> PreTrainedTokenizerFast:
    save_tokenizer(folder)
    found = PreTrainedTokenizerFast.from_pretrained(folder)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def t5() -> T5EncoderModel:
    config = T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def sd1(folder: Path) -> Any:
    return d.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        unet=unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(folder: Path) -> Any:
    return d.StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip(width=8),
        text_encoder_2=clip(CLIPTextModelWithProjection, 8),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=4 * 6 + 8,
        ),
        scheduler=ddim(),
        add_watermarker=False,
    )


def sd3(folder: Path) -> Any:
    return d.StableDiffusion3Pipeline(
        transformer=d.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=32,
            out_channels=16,
            pos_embed_max_size=16,
        ),
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
        vae=vae(16, shifted=True),
        text_encoder=clip(CLIPTextModelWithProjection, 16),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(CLIPTextModelWithProjection, 16),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=bytes_tokenizer(folder / "letters"),
    )


def flux(folder: Path) -> Any:
    return d.FluxPipeline(
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
        vae=vae(4, shifted=True),
        text_encoder=clip(width=16),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=bytes_tokenizer(folder / "letters"),
        transformer=d.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def qwen_image(folder: Path) -> Any:
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 300,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    config = Qwen2_5_VLConfig(text_config=text, vision_config={**vision, "out_hidden_size": 16})
    return d.QwenImagePipeline(
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
        vae=d.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            attn_scales=[],
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=bytes_tokenizer(folder / "letters"),
        transformer=d.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def z_image(folder: Path) -> Any:
    config = Qwen3Config(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return d.ZImagePipeline(
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
        vae=vae(16, shifted=True),
        text_encoder=Qwen3Model(config).eval(),
        tokenizer=bytes_tokenizer(folder / "letters", chat_template=template),
        transformer=d.ZImageTransformer2DModel(
            in_channels=16,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 4, 8],
            axes_lens=[256, 32, 32],
        ),
    )


MAKERS = {
    "sd1": sd1,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "qwen-image": qwen_image,
    "z-image": z_image,
}


def save_pipeline(kind: str, folder: Path) -> Path:
    """The folder of a pipeline with normal random weights, so that prompts and adapters matter."""
    torch.manual_seed(7)
    pipe = MAKERS[kind](folder)
    pipe.save_pretrained(folder)
    return folder


def random_adapter(
    modules: dict[str, tuple[int, int]],
    seed: int = 0,
    rank: int = 2,
    size: float = 0.3,
    keep: str = "",
) -> Adapter:
    """Normal factors for the modules {path: (d_in, d_out)} whose path contains `keep`."""
    rng = np.random.default_rng(seed)
    factors = {
        name: LoraFactors(
            A=rng.normal(0, size, (rank, d_in)).astype(np.float32),
            B=rng.normal(0, size, (d_out, rank)).astype(np.float32),
            component=name.partition(".")[0],
        )
        for name, (d_in, d_out) in sorted(modules.items())
        if keep in name
    }
    return Adapter(factors, AdapterCard(title=f"adapter {seed}"))
