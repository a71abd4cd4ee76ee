"""Stable Diffusion 3's names in Stability AI's code, and OneTrainer's for parts of its matrices."""

from __future__ import annotations

from lora_studio.formats.cuts import Cut
from lora_studio.formats.originals.table import Table, one, qkv

_BLOCK, _TIME = "transformer_blocks.{}", "time_text_embed"
_FUSED = {
    "joint_blocks.{}.x_block.attn.qkv": [f"{_BLOCK}.attn.to_{n}" for n in "qkv"],
    "joint_blocks.{}.x_block.attn2.qkv": [f"{_BLOCK}.attn2.to_{n}" for n in "qkv"],
    "joint_blocks.{}.context_block.attn.qkv": [f"{_BLOCK}.attn.add_{n}_proj" for n in "qkv"],
}

SD3 = Table(
    "sd3",
    {
        **{name: qkv(*paths) for name, paths in _FUSED.items()},
        **{
            f"{name}.{index}": one(path)
            for name, paths in _FUSED.items()
            for index, path in enumerate(paths)
        },
        "joint_blocks.{}.x_block.attn.proj": one(f"{_BLOCK}.attn.to_out.0"),
        "joint_blocks.{}.x_block.attn2.proj": one(f"{_BLOCK}.attn2.to_out.0"),
        "joint_blocks.{}.context_block.attn.proj": one(f"{_BLOCK}.attn.to_add_out"),
        "joint_blocks.{}.x_block.mlp.fc1": one(f"{_BLOCK}.ff.net.0.proj"),
        "joint_blocks.{}.x_block.mlp.fc2": one(f"{_BLOCK}.ff.net.2"),
        "joint_blocks.{}.context_block.mlp.fc1": one(f"{_BLOCK}.ff_context.net.0.proj"),
        "joint_blocks.{}.context_block.mlp.fc2": one(f"{_BLOCK}.ff_context.net.2"),
        "joint_blocks.{}.x_block.adaLN_modulation.1": one(f"{_BLOCK}.norm1.linear"),
        # The last block's, which alone is twice as high as it is wide, is a final norm in diffusers
        "joint_blocks.{}.context_block.adaLN_modulation.1": Cut(
            (f"{_BLOCK}.norm1_context.linear",), swapped=True
        ),
        "x_embedder.proj": one("pos_embed.proj"),
        "context_embedder": one("context_embedder"),
        "t_embedder.mlp.0": one(f"{_TIME}.timestep_embedder.linear_1"),
        "t_embedder.mlp.2": one(f"{_TIME}.timestep_embedder.linear_2"),
        "y_embedder.mlp.0": one(f"{_TIME}.text_embedder.linear_1"),
        "y_embedder.mlp.2": one(f"{_TIME}.text_embedder.linear_2"),
        "final_layer.linear": one("proj_out"),
        "final_layer.adaLN_modulation.1": Cut(("norm_out.linear",), (2,), swapped=True),
    },
)
