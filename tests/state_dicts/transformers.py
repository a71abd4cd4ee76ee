"""Fixtures of transformers' adapters, from live modules of small models of each family and what
their original code calls them. Run by `write.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import diffusers as d
import torch
from torch import nn
from transformers import T5Config, T5EncoderModel

Shapes = dict[str, tuple[int, ...]]
Sizes = dict[str, list[int]]


class Original(NamedTuple):
    """A module of the original code: its name and diffusers' for its rows from top to bottom.

    Args:
        swapped: whether the two halves of the rows change places.
    """

    name: str
    paths: tuple[str, ...]
    swapped: bool = False


def models() -> dict[str, nn.Module]:
    """Tiny models without values, by family."""
    with torch.device("meta"):
        return {
            "flux": d.FluxTransformer2DModel(
                in_channels=12,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=20,
                pooled_projection_dim=12,
                guidance_embeds=True,
                axes_dims_rope=(2, 2, 4),
            ),
            "sd3": d.SD3Transformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=20,
                caption_projection_dim=16,
                pooled_projection_dim=12,
                out_channels=4,
                pos_embed_max_size=16,
                dual_attention_layers=(0,),
            ),
            "qwen-image": d.QwenImageTransformer2DModel(
                patch_size=2,
                in_channels=12,
                out_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=20,
                axes_dims_rope=(2, 2, 4),
            ),
            "z-image": d.ZImageTransformer2DModel(
                in_channels=4,
                dim=16,
                n_layers=1,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=20,
                axes_dims=[2, 2, 4],
                axes_lens=[256, 32, 32],
            ),
            "wan": d.WanTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=4,
                text_dim=16,
                freq_dim=8,
                ffn_dim=32,
                num_layers=1,
                image_dim=20,
                added_kv_proj_dim=24,
            ),
            "hunyuan-video": d.HunyuanVideoTransformer3DModel(
                in_channels=4,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=8,
                num_layers=1,
                num_single_layers=1,
                num_refiner_layers=1,
                patch_size=1,
                patch_size_t=1,
                text_embed_dim=20,
                pooled_projection_dim=12,
                rope_axes_dim=(2, 2, 4),
            ),
            "ltx-video": d.LTXVideoTransformer3DModel(
                in_channels=8,
                out_channels=8,
                num_attention_heads=2,
                attention_head_dim=8,
                cross_attention_dim=16,
                num_layers=1,
                caption_channels=20,
            ),
            "t5": T5EncoderModel(
                T5Config(
                    vocab_size=20,
                    d_model=16,
                    d_kv=8,
                    d_ff=24,
                    num_layers=1,
                    num_heads=2,
                    feed_forward_proj="gated-gelu",
                )
            ),
        }


def shapes_of(model: nn.Module) -> Shapes:
    """Sizes of all linear and flat convolutional layers."""
    kinds = (nn.Linear, nn.Conv2d)
    return {n: tuple(m.weight.shape) for n, m in model.named_modules() if isinstance(m, kinds)}


def flux(parts: bool = False) -> Iterator[Original]:
    """Black Forest Labs' names; OneTrainer's for parts of the matrices if `parts`."""
    sides = {"img": "attn.to_{}", "txt": "attn.add_{}_proj"}
    outs = {"img": ("attn.to_out.0", "ff", "norm1"), "txt": ("attn.to_add_out", "ff_context", "")}
    for side, leaf in sides.items():
        here, there = f"double_blocks.0.{side}_", "transformer_blocks.0."
        whole = tuple(there + leaf.format(n) for n in "qkv")
        out, mlp, norm = outs[side]
        yield from _fused(f"{here}attn.qkv", whole, parts)
        yield Original(f"{here}attn.proj", (there + out,))
        yield Original(f"{here}mlp.0", (f"{there}{mlp}.net.0.proj",))
        yield Original(f"{here}mlp.2", (f"{there}{mlp}.net.2",))
        yield Original(f"{here}mod.lin", (f"{there}{norm or 'norm1_context'}.linear",))
    here, there = "single_blocks.0.", "single_transformer_blocks.0."
    first = (*(f"{there}attn.to_{n}" for n in "qkv"), f"{there}proj_mlp")
    yield from _fused(f"{here}linear1", first, parts)
    yield Original(f"{here}linear2", (f"{there}proj_out",))
    yield Original(f"{here}modulation.lin", (f"{there}norm.linear",))
    yield Original("img_in.proj" if parts else "img_in", ("x_embedder",))
    yield Original("txt_in", ("context_embedder",))
    for name, kind in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance")):
        for way, n in (("in", 1), ("out", 2)):
            path = f"time_text_embed.{kind}_embedder.linear_{n}"
            yield Original(f"{name}_in.{way}_layer", (path,))
    yield Original("final_layer.linear", ("proj_out",))
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), True)


def _fused(name: str, paths: tuple[str, ...], parts: bool) -> Iterator[Original]:
    if not parts:
        yield Original(name, paths)
        return
    for index, path in enumerate(paths):
        yield Original(f"{name}.{index}", (path,))


def sd3() -> Iterator[Original]:
    for i in range(2):
        here, there = f"joint_blocks.{i}.", f"transformer_blocks.{i}."
        for attn in ("attn", "attn2")[: 2 - i]:
            whole = tuple(f"{there}{attn}.to_{n}" for n in "qkv")
            yield Original(f"{here}x_block.{attn}.qkv", whole)
            yield Original(f"{here}x_block.{attn}.proj", (f"{there}{attn}.to_out.0",))
        whole = tuple(f"{there}attn.add_{n}_proj" for n in "qkv")
        yield Original(f"{here}context_block.attn.qkv", whole)
        yield Original(f"{here}x_block.mlp.fc1", (f"{there}ff.net.0.proj",))
        yield Original(f"{here}x_block.mlp.fc2", (f"{there}ff.net.2",))
        yield Original(f"{here}x_block.adaLN_modulation.1", (f"{there}norm1.linear",))
        norm = (f"{there}norm1_context.linear",)
        yield Original(f"{here}context_block.adaLN_modulation.1", norm, i == 1)
    here, there = "joint_blocks.0.context_block.", "transformer_blocks.0."
    yield Original(f"{here}attn.proj", (f"{there}attn.to_add_out",))
    yield Original(f"{here}mlp.fc1", (f"{there}ff_context.net.0.proj",))
    yield Original(f"{here}mlp.fc2", (f"{there}ff_context.net.2",))
    yield Original("x_embedder.proj", ("pos_embed.proj",))
    yield Original("context_embedder", ("context_embedder",))
    for name, kind in (("t", "timestep"), ("y", "text")):
        for layer, n in (("0", 1), ("2", 2)):
            path = f"time_text_embed.{kind}_embedder.linear_{n}"
            yield Original(f"{name}_embedder.mlp.{layer}", (path,))
    yield Original("final_layer.linear", ("proj_out",))
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), True)


def as_it_is(shapes: Shapes) -> Iterator[Original]:
    """Names that diffusers has taken over."""
    for path in shapes:
        yield Original(path, (path,))


def z_image(shapes: Shapes) -> Iterator[Original]:
    """Tongyi's own code, which has one matrix for queries, keys and values."""
    for path in shapes:
        stem, _, leaf = path.rpartition(".")
        if leaf == "to_q":
            yield Original(f"{stem}.qkv", tuple(f"{stem}.to_{n}" for n in "qkv"))
        elif path.endswith("to_out.0"):
            yield Original(path.replace("to_out.0", "out"), (path,))
        elif leaf not in ("to_k", "to_v"):
            name = path.removeprefix("all_").replace("2-1.", "").replace(".2-1", "")
            yield Original(name, (path,))


def wan() -> Iterator[Original]:
    sides = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
    more = {"k_img": "add_k_proj", "v_img": "add_v_proj"}
    for name, attn, found in (("self", "attn1", sides), ("cross", "attn2", sides | more)):
        for side, leaf in found.items():
            yield Original(f"blocks.0.{name}_attn.{side}", (f"blocks.0.{attn}.{leaf}",))
    yield Original("blocks.0.ffn.0", ("blocks.0.ffn.net.0.proj",))
    yield Original("blocks.0.ffn.2", ("blocks.0.ffn.net.2",))
    for kind in ("text", "time"):
        for layer, n in (("0", 1), ("2", 2)):
            path = f"condition_embedder.{kind}_embedder.linear_{n}"
            yield Original(f"{kind}_embedding.{layer}", (path,))
    yield Original("time_projection.1", ("condition_embedder.time_proj",))
    for layer, leaf in (("1", "0.proj"), ("3", "2")):
        path = f"condition_embedder.image_embedder.ff.net.{leaf}"
        yield Original(f"img_emb.proj.{layer}", (path,))
    yield Original("head.head", ("proj_out",))


def hunyuan_video() -> Iterator[Original]:
    double = {
        "img": ("to_{}", "to_out.0", "ff"),
        "txt": ("add_{}_proj", "to_add_out", "ff_context"),
    }
    for side, (leaf, out, mlp) in double.items():
        here, there = f"double_blocks.0.{side}_", "transformer_blocks.0."
        yield Original(f"{here}attn_qkv", tuple(f"{there}attn.{leaf.format(n)}" for n in "qkv"))
        yield Original(f"{here}attn_proj", (f"{there}attn.{out}",))
        yield Original(f"{here}mlp.fc1", (f"{there}{mlp}.net.0.proj",))
        yield Original(f"{here}mlp.fc2", (f"{there}{mlp}.net.2",))
        norm = "norm1" if side == "img" else "norm1_context"
        yield Original(f"{here}mod.linear", (f"{there}{norm}.linear",))
    here, there = "single_blocks.0.", "single_transformer_blocks.0."
    first = (*(f"{there}attn.to_{n}" for n in "qkv"), f"{there}proj_mlp")
    yield Original(f"{here}linear1", first)
    yield Original(f"{here}linear2", (f"{there}proj_out",))
    yield Original(f"{here}modulation.linear", (f"{there}norm.linear",))
    here = "txt_in.individual_token_refiner.blocks.0."
    there = "context_embedder.token_refiner.refiner_blocks.0."
    yield Original(f"{here}self_attn_qkv", tuple(f"{there}attn.to_{n}" for n in "qkv"))
    yield Original(f"{here}self_attn_proj", (f"{there}attn.to_out.0",))
    yield Original(f"{here}mlp.fc1", (f"{there}ff.net.0.proj",))
    yield Original(f"{here}mlp.fc2", (f"{there}ff.net.2",))
    yield Original("vector_in.in_layer", ("time_text_embed.text_embedder.linear_1",))
    yield Original("guidance_in.mlp.2", ("time_text_embed.guidance_embedder.linear_2",))
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), True)


def ltx_video(shapes: Shapes) -> Iterator[Original]:
    for path in shapes:
        name = path.replace("time_embed.", "adaln_single.")
        yield Original("patchify_proj" if path == "proj_in" else name, (path,))


def spans(original: Original, shapes: Shapes) -> dict[str, list[list[int]]]:
    """diffusers' module -> which rows of the original's are its rows, from top to bottom."""
    if original.swapped:
        half = shapes[original.paths[0]][0] // 2
        return {original.paths[0]: [[half, 2 * half], [0, half]]}
    found, top = {}, 0
    for path in original.paths:
        found[path] = [[top, top + shapes[path][0]]]
        top += shapes[path][0]
    return found


class Writer:
    """Adds the modules of a model to a fixture under names of the original code."""

    def __init__(self, fixture: Any, shapes: Shapes, component: str = "transformer") -> None:
        self._fixture, self._shapes, self._component = fixture, shapes, component

    def add(self, names: Iterator[Original], spell: Callable[[str], str], tensors: Any) -> None:
        """`tensors`: (shape, number of the module) -> sizes by the end of the tensor's name."""
        for index, original in enumerate(names):
            found = spans(original, self._shapes)
            height = sum(b - a for rows in found.values() for a, b in rows)
            shape = (height, *self._shapes[original.paths[0]][1:])
            rows = {f"{self._component}.{path}": span for path, span in found.items()}
            whole = len(rows) == 1 and not original.swapped
            stem = spell(original.name)
            self._fixture.add(stem, next(iter(rows)) if whole else rows, tensors(shape, index))
