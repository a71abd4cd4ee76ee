"""Module names with underscores for dots, as kohya's scripts write them, and back. What is not
made of known words is no name: half of an unknown model must not be guessed."""

from __future__ import annotations

import re

_WORDS = (
    # UNets
    "down_blocks", "up_blocks", "mid_block", "attentions", "resnets", "downsamplers", "upsamplers",
    "transformer_blocks", "attn1", "attn2", "to_q", "to_k", "to_v", "to_out", "ff", "net", "proj",
    "proj_in", "proj_out", "conv", "conv1", "conv2", "conv_in", "conv_out", "conv_shortcut",
    "time_emb_proj", "time_embedding", "add_embedding", "linear_1", "linear_2",
    # CLIP
    "text_model", "encoder", "layers", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "mlp",
    "fc1", "fc2", "text_projection", "embeddings", "token_embedding", "position_embedding",
    # diffusers' transformers
    "single_transformer_blocks", "attn", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    "ff_context", "proj_mlp", "norm", "norm1", "norm1_context", "norm_out", "linear", "img_mlp",
    "txt_mlp", "img_mod", "txt_mod", "img_in", "txt_in", "time_text_embed", "timestep_embedder",
    "guidance_embedder", "text_embedder", "x_embedder", "context_embedder", "noise_refiner",
    "context_refiner", "attention", "feed_forward", "w1", "w2", "w3", "adaLN_modulation",
)  # fmt: skip
_BY_PARTS: dict[tuple[str, ...], str] = {tuple(word.split("_")): word for word in _WORDS}
_LONGEST = max(map(len, _BY_PARTS))

_LAYERS = 2
"""Resnets of each block of a Stable Diffusion UNet, in which the other naming counts blocks."""

_SGM_WHOLE = {
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
}
_SGM_RESNET = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_SGM_BLOCK = re.compile(r"(input_blocks|output_blocks)_(\d{1,3})_(\d)_(\w+)")
_SGM_MIDDLE = re.compile(r"middle_block_([012])_(\w+)")


def dotted(name: str) -> str | None:
    """The module path an underscored name stands for, or None if it is not made of known words.

    "down_blocks_0_attentions_1_proj_in" and "input_blocks_2_1_proj_in", which the original Stable
    Diffusion code says for it, are both "down_blocks.0.attentions.1.proj_in".
    """
    parts = _from_sgm(name).split("_")
    words: list[str] = []
    while parts:
        size = next((n for n in range(_LONGEST, 0, -1) if tuple(parts[:n]) in _BY_PARTS), 0)
        if size:
            words.append(_BY_PARTS[tuple(parts[:size])])
        elif parts[0].isdecimal() and words:
            words.append(parts[0])
            size = 1
        else:
            return None
        parts = parts[size:]
    return ".".join(words)


def underscored(path: str) -> str:
    """A module path with its dots as underscores."""
    return path.replace(".", "_")


def _from_sgm(name: str) -> str:
    """The original code's name in diffusers' words; other names as they are."""
    if name in _SGM_WHOLE:
        return _SGM_WHOLE[name]
    if middle := _SGM_MIDDLE.fullmatch(name):
        index, rest = int(middle[1]), middle[2]
        if index == 1:
            return f"mid_block_attentions_0_{rest}"
        return f"mid_block_resnets_{index // 2}_{_SGM_RESNET.get(rest, rest)}"
    block = _SGM_BLOCK.fullmatch(name)
    if not block:
        return name
    side, rest = block[1], block[4]
    number = int(block[2]) - (side == "input_blocks")
    home = "down_blocks" if side == "input_blocks" else "up_blocks"
    stage, layer = divmod(number, _LAYERS + 1)
    if rest in ("op", "conv"):
        sampler = "downsamplers" if rest == "op" else "upsamplers"
        return f"{home}_{stage}_{sampler}_0_conv"
    if rest in _SGM_RESNET:
        return f"{home}_{stage}_resnets_{layer}_{_SGM_RESNET[rest]}"
    return f"{home}_{stage}_attentions_{layer}_{rest}"
