"""Stable Diffusion's modules in the order in which trainers that name them by number met them.

Stable Diffusion 1 and 2 have one UNet, but for the width of the prompt's embedding. A trainer
walked the UNet from block to block and took every layer below modules of certain classes; the
blocks go down, up, then middle, since the middle one is registered last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

CHANNELS = (320, 640, 1280, 1280)
TIME = 1280
CONTEXTS = (768, 1024)
LAYERS = 2
"""ResNets of a block on the way down; one more on the way up."""

ATTENTION, GEGLU, RESNET = "attention", "geglu", "resnet"
CLASSES = ((ATTENTION, GEGLU), (ATTENTION,), (ATTENTION, GEGLU, RESNET), (GEGLU,))
"""What trainers chose, the default first."""

TEXT_LAYERS = ("k_proj", "v_proj", "q_proj", "out_proj")
"""CLIP's attention, in the order transformers registers it."""

Shape = tuple[int, ...]


class Layer(NamedTuple):
    """A layer's path in the UNet and the shape of its weight, (d_out, d_in) or that of a kernel."""

    path: str
    shape: Shape


def unet_layers(shapes: Sequence[tuple[Shape, Shape]]) -> list[Layer] | None:
    """The layers that factors of these shapes, in file order, belong to; None if they fit no order.

    Args:
        shapes: (shape of down, shape of up) of each pair of factors.
    """
    for classes, between, width in product(CLASSES, (True, False), CONTEXTS):
        layers = list(enumerate_unet(classes, between, width))
        if len(layers) == len(shapes) and all(map(_fits, layers, shapes)):
            return layers
    return None


def enumerate_unet(classes: Sequence[str], between: bool, context: int) -> Iterator[Layer]:
    """Layers of the UNet in the order of a walk.

    Args:
        between: whether a transformer block has its GEGLU between its two attentions, as diffusers
            registered them up to 0.11, or after both.
        context: width of the prompt's embedding.
    """
    for block, width, ins in _blocks():
        attended = (0, 1, 2) if block.startswith("up") else (0, 1)
        if block == "mid_block":
            attended = (0,)
        if block in ("down_blocks.3", "up_blocks.0"):
            attended = ()
        for n in attended:
            stem = f"{block}.attentions.{n}.transformer_blocks.0"
            yield from _transformer(stem, width, context, classes, between)
        for n, d_in in enumerate(ins):
            if RESNET in classes:
                yield from _resnet(f"{block}.resnets.{n}", d_in, width)


def text_layers(shapes: Sequence[tuple[Shape, Shape]]) -> list[Layer] | None:
    """The attentions of a CLIP text encoder, layer by layer; None if the shapes are not theirs."""
    width = shapes[0][0][-1]
    layers = [
        Layer(f"text_model.encoder.layers.{n}.self_attn.{name}", (width, width))
        for n in range(len(shapes) // len(TEXT_LAYERS))
        for name in TEXT_LAYERS
    ]
    fits = len(layers) == len(shapes) and all(map(_fits, layers, shapes))
    return layers if fits else None


def _blocks() -> Iterator[tuple[str, int, list[int]]]:
    """(name, channels out, channels into each ResNet) of each block, in the order of the walk."""
    before = CHANNELS[0]
    for n, width in enumerate(CHANNELS):
        yield f"down_blocks.{n}", width, [before, *[width] * (LAYERS - 1)]
        before = width
    upward = CHANNELS[::-1]
    for n, width in enumerate(upward):
        skip = upward[min(n + 1, len(upward) - 1)]
        yield f"up_blocks.{n}", width, [before + width, *[2 * width] * (LAYERS - 1), width + skip]
        before = width
    yield "mid_block", CHANNELS[-1], [CHANNELS[-1]] * 2


def _transformer(
    stem: str, width: int, context: int, classes: Sequence[str], between: bool
) -> Iterator[Layer]:
    first = list(_attention(f"{stem}.attn1", width, width)) if ATTENTION in classes else []
    second = list(_attention(f"{stem}.attn2", width, context)) if ATTENTION in classes else []
    middle = [Layer(f"{stem}.ff.net.0.proj", (8 * width, width))] if GEGLU in classes else []
    yield from [*first, *middle, *second] if between else [*first, *second, *middle]


def _attention(stem: str, width: int, context: int) -> Iterator[Layer]:
    yield Layer(f"{stem}.to_q", (width, width))
    yield Layer(f"{stem}.to_k", (width, context))
    yield Layer(f"{stem}.to_v", (width, context))
    yield Layer(f"{stem}.to_out.0", (width, width))


def _resnet(stem: str, d_in: int, d_out: int) -> Iterator[Layer]:
    yield Layer(f"{stem}.conv1", (d_out, d_in, 3, 3))
    yield Layer(f"{stem}.time_emb_proj", (d_out, TIME))
    yield Layer(f"{stem}.conv2", (d_out, d_out, 3, 3))
    if d_in != d_out:
        yield Layer(f"{stem}.conv_shortcut", (d_out, d_in, 1, 1))


def _fits(layer: Layer, shapes: tuple[Shape, Shape]) -> bool:
    down, up = shapes
    return down[1:] == layer.shape[1:] and up[0] == layer.shape[0] and len(up) == len(layer.shape)
