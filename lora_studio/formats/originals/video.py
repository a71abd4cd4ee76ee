"""Names of video models in their original code: Wan, HunyuanVideo and LTX-Video."""

from __future__ import annotations

from lora_studio.formats.cuts import Cut
from lora_studio.formats.originals.table import Table, one, qkv, same

_SIDES = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
_CONDITION = "condition_embedder"

WAN = Table(
    "wan",
    {
        **{f"blocks.{{}}.self_attn.{a}": one(f"blocks.{{}}.attn1.{b}") for a, b in _SIDES.items()},
        **{f"blocks.{{}}.cross_attn.{a}": one(f"blocks.{{}}.attn2.{b}") for a, b in _SIDES.items()},
        "blocks.{}.cross_attn.k_img": one("blocks.{}.attn2.add_k_proj"),
        "blocks.{}.cross_attn.v_img": one("blocks.{}.attn2.add_v_proj"),
        "blocks.{}.ffn.0": one("blocks.{}.ffn.net.0.proj"),
        "blocks.{}.ffn.2": one("blocks.{}.ffn.net.2"),
        "text_embedding.0": one(f"{_CONDITION}.text_embedder.linear_1"),
        "text_embedding.2": one(f"{_CONDITION}.text_embedder.linear_2"),
        "time_embedding.0": one(f"{_CONDITION}.time_embedder.linear_1"),
        "time_embedding.2": one(f"{_CONDITION}.time_embedder.linear_2"),
        "time_projection.1": one(f"{_CONDITION}.time_proj"),
        "img_emb.proj.1": one(f"{_CONDITION}.image_embedder.ff.net.0.proj"),
        "img_emb.proj.3": one(f"{_CONDITION}.image_embedder.ff.net.2"),
        "head.head": one("proj_out"),
    },
)

_DOUBLE, _SINGLE = "transformer_blocks.{}", "single_transformer_blocks.{}"
_REFINER, _WORDS = "txt_in.individual_token_refiner.blocks.{}", "context_embedder"
_REFINED = f"{_WORDS}.token_refiner.refiner_blocks.{{}}"
_TIME = "time_text_embed"

HUNYUAN_VIDEO = Table(
    "hunyuan-video",
    {
        "double_blocks.{}.img_attn_qkv": qkv(*(f"{_DOUBLE}.attn.to_{n}" for n in "qkv")),
        "double_blocks.{}.txt_attn_qkv": qkv(*(f"{_DOUBLE}.attn.add_{n}_proj" for n in "qkv")),
        "double_blocks.{}.img_attn_proj": one(f"{_DOUBLE}.attn.to_out.0"),
        "double_blocks.{}.txt_attn_proj": one(f"{_DOUBLE}.attn.to_add_out"),
        "double_blocks.{}.img_mlp.fc1": one(f"{_DOUBLE}.ff.net.0.proj"),
        "double_blocks.{}.img_mlp.fc2": one(f"{_DOUBLE}.ff.net.2"),
        "double_blocks.{}.txt_mlp.fc1": one(f"{_DOUBLE}.ff_context.net.0.proj"),
        "double_blocks.{}.txt_mlp.fc2": one(f"{_DOUBLE}.ff_context.net.2"),
        "double_blocks.{}.img_mod.linear": one(f"{_DOUBLE}.norm1.linear"),
        "double_blocks.{}.txt_mod.linear": one(f"{_DOUBLE}.norm1_context.linear"),
        "single_blocks.{}.linear1": Cut(
            (*(f"{_SINGLE}.attn.to_{n}" for n in "qkv"), f"{_SINGLE}.proj_mlp"), (1, 1, 1, 4)
        ),
        "single_blocks.{}.linear2": one(f"{_SINGLE}.proj_out"),
        "single_blocks.{}.modulation.linear": one(f"{_SINGLE}.norm.linear"),
        f"{_REFINER}.self_attn_qkv": qkv(*(f"{_REFINED}.attn.to_{n}" for n in "qkv")),
        f"{_REFINER}.self_attn_proj": one(f"{_REFINED}.attn.to_out.0"),
        f"{_REFINER}.mlp.fc1": one(f"{_REFINED}.ff.net.0.proj"),
        f"{_REFINER}.mlp.fc2": one(f"{_REFINED}.ff.net.2"),
        f"{_REFINER}.adaLN_modulation.1": one(f"{_REFINED}.norm_out.linear"),
        "txt_in.input_embedder": one(f"{_WORDS}.proj_in"),
        "txt_in.t_embedder.mlp.0": one(f"{_WORDS}.{_TIME}.timestep_embedder.linear_1"),
        "txt_in.t_embedder.mlp.2": one(f"{_WORDS}.{_TIME}.timestep_embedder.linear_2"),
        "txt_in.c_embedder.linear_1": one(f"{_WORDS}.{_TIME}.text_embedder.linear_1"),
        "txt_in.c_embedder.linear_2": one(f"{_WORDS}.{_TIME}.text_embedder.linear_2"),
        "img_in.proj": one("x_embedder.proj"),
        "time_in.mlp.0": one(f"{_TIME}.timestep_embedder.linear_1"),
        "time_in.mlp.2": one(f"{_TIME}.timestep_embedder.linear_2"),
        "vector_in.in_layer": one(f"{_TIME}.text_embedder.linear_1"),
        "vector_in.out_layer": one(f"{_TIME}.text_embedder.linear_2"),
        "guidance_in.mlp.0": one(f"{_TIME}.guidance_embedder.linear_1"),
        "guidance_in.mlp.2": one(f"{_TIME}.guidance_embedder.linear_2"),
        "final_layer.linear": one("proj_out"),
        "final_layer.adaLN_modulation.1": Cut(("norm_out.linear",), (2,), swapped=True),
    },
)

_LTX = "transformer_blocks.{}"

LTX_VIDEO = Table(
    "ltx-video",
    {
        **same(
            *(f"{_LTX}.{attn}.{side}" for attn in ("attn1", "attn2") for side in _SIDES.values()),
            f"{_LTX}.ff.net.0.proj",
            f"{_LTX}.ff.net.2",
            "caption_projection.linear_1",
            "caption_projection.linear_2",
            "proj_out",
        ),
        "patchify_proj": one("proj_in"),
        "adaln_single.linear": one("time_embed.linear"),
        "adaln_single.emb.timestep_embedder.linear_1": one(
            "time_embed.emb.timestep_embedder.linear_1"
        ),
        "adaln_single.emb.timestep_embedder.linear_2": one(
            "time_embed.emb.timestep_embedder.linear_2"
        ),
    },
)
