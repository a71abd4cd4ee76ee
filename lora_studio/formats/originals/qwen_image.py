"""Qwen-Image's names, which diffusers has taken over."""

from __future__ import annotations

from lora_studio.formats.originals.table import Table, same

_BLOCK = "transformer_blocks.{}"
_ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
)  # fmt: skip

QWEN_IMAGE = Table(
    "qwen-image",
    same(
        *(f"{_BLOCK}.attn.{name}" for name in _ATTENTION),
        *(f"{_BLOCK}.{side}_mlp.net.{layer}" for side in ("img", "txt") for layer in ("0.proj", 2)),
        f"{_BLOCK}.img_mod.1",
        f"{_BLOCK}.txt_mod.1",
        "img_in",
        "txt_in",
        "time_text_embed.timestep_embedder.linear_1",
        "time_text_embed.timestep_embedder.linear_2",
        "norm_out.linear",
        "proj_out",
    ),
)
