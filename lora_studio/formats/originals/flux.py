"""Flux.1's names in Black Forest Labs' code, and OneTrainer's for the parts of its matrices."""

from __future__ import annotations

from lora_studio.formats.cuts import Cut
from lora_studio.formats.originals.table import Table, one, qkv

_DOUBLE, _SINGLE = "transformer_blocks.{}", "single_transformer_blocks.{}"
_TIME = "time_text_embed"
_IMAGE = [f"{_DOUBLE}.attn.to_{n}" for n in "qkv"]
_WORDS = [f"{_DOUBLE}.attn.add_{n}_proj" for n in "qkv"]
_FIRST = [*(f"{_SINGLE}.attn.to_{n}" for n in "qkv"), f"{_SINGLE}.proj_mlp"]


def _parts(name: str, paths: list[str]) -> dict[str, Cut]:
    """Each part of a matrix under a number of its own."""
    return {f"{name}.{index}": one(path) for index, path in enumerate(paths)}


FLUX = Table(
    "flux",
    {
        "double_blocks.{}.img_attn.qkv": qkv(*_IMAGE),
        "double_blocks.{}.txt_attn.qkv": qkv(*_WORDS),
        **_parts("double_blocks.{}.img_attn.qkv", _IMAGE),
        **_parts("double_blocks.{}.txt_attn.qkv", _WORDS),
        "double_blocks.{}.img_attn.proj": one(f"{_DOUBLE}.attn.to_out.0"),
        "double_blocks.{}.txt_attn.proj": one(f"{_DOUBLE}.attn.to_add_out"),
        "double_blocks.{}.img_mlp.0": Cut((f"{_DOUBLE}.ff.net.0.proj",), (4,)),
        "double_blocks.{}.img_mlp.2": one(f"{_DOUBLE}.ff.net.2"),
        "double_blocks.{}.txt_mlp.0": Cut((f"{_DOUBLE}.ff_context.net.0.proj",), (4,)),
        "double_blocks.{}.txt_mlp.2": one(f"{_DOUBLE}.ff_context.net.2"),
        "double_blocks.{}.img_mod.lin": one(f"{_DOUBLE}.norm1.linear"),
        "double_blocks.{}.txt_mod.lin": one(f"{_DOUBLE}.norm1_context.linear"),
        "single_blocks.{}.linear1": Cut(tuple(_FIRST), (1, 1, 1, 4)),
        **_parts("single_blocks.{}.linear1", _FIRST),
        "single_blocks.{}.linear2": one(f"{_SINGLE}.proj_out"),
        "single_blocks.{}.modulation.lin": one(f"{_SINGLE}.norm.linear"),
        "img_in": one("x_embedder"),
        "img_in.proj": one("x_embedder"),
        "txt_in": one("context_embedder"),
        "time_in.in_layer": one(f"{_TIME}.timestep_embedder.linear_1"),
        "time_in.out_layer": one(f"{_TIME}.timestep_embedder.linear_2"),
        "vector_in.in_layer": one(f"{_TIME}.text_embedder.linear_1"),
        "vector_in.out_layer": one(f"{_TIME}.text_embedder.linear_2"),
        "guidance_in.in_layer": one(f"{_TIME}.guidance_embedder.linear_1"),
        "guidance_in.out_layer": one(f"{_TIME}.guidance_embedder.linear_2"),
        "final_layer.linear": one("proj_out"),
        "final_layer.adaLN_modulation.1": Cut(("norm_out.linear",), (2,), swapped=True),
    },
)
