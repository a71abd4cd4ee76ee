"""Where a module stands in a pipeline: its component, and the one spelling of its path we keep."""

from __future__ import annotations

from collections.abc import Iterable

UNET_ROOTS = frozenset(
    (
        "conv_in", "conv_out", "time_embedding", "add_embedding",
        "down_blocks", "mid_block", "up_blocks",
    )
)  # fmt: skip
TRANSFORMER_WORDS = frozenset(
    (
        "transformer_blocks", "single_transformer_blocks", "noise_refiner", "context_refiner",
        "to_q", "to_k", "to_v", "to_out", "to_add_out", "add_q_proj", "img_mlp", "txt_mlp",
    )
)  # fmt: skip
"""Words in the paths of diffusers' transformers that no language model's path has."""

COMPONENTS = (
    "unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "transformer_2",
)  # fmt: skip
CLIP_ROOTS = ("encoder.layers.", "embeddings.", "final_layer_norm")


def of_transformer(paths: Iterable[str]) -> bool:
    """Whether the paths of one file are those of a diffusers transformer, as far as they are not a
    UNet's or a text encoder's; "transformer.h.0" and "layers.0" alone are a language model's."""
    elsewhere = UNET_ROOTS | {part for part in COMPONENTS if part != "transformer"}
    pieces = (path.split(".") for path in paths)
    return any(p[0] not in elsewhere and not TRANSFORMER_WORDS.isdisjoint(p) for p in pieces)


def place(path: str, transformer: bool = False) -> tuple[str, str]:
    """(component, canonical path) of a module.

    Args:
        path: with or without its component: "unet.conv_in", "conv_in", "model.layers.0.mlp".
        transformer: what `of_transformer` says of the file it is from.

    The component leads every canonical path of a pipeline; a language model's component is "model"
    and its paths stay as they are. CLIP's layers always stand under `text_model.`.
    """
    first, _, rest = path.partition(".")
    if first == "transformer" and not transformer:
        return "model", path
    if first not in COMPONENTS:
        component = _home(path, transformer)
        if component == "model":
            return component, path
        first, rest = component, path
    if first.startswith("text_encoder") and rest.startswith(CLIP_ROOTS):
        rest = f"text_model.{rest}"
    return first, f"{first}.{rest}"


def has_component(path: str, transformer: bool) -> bool:
    """Whether a path names its component itself."""
    first = path.partition(".")[0]
    return first in COMPONENTS and (first != "transformer" or transformer)


def _home(path: str, transformer: bool) -> str:
    root = path.partition(".")[0]
    if root in UNET_ROOTS:
        return "unet"
    if path.startswith("text_model."):
        return "text_encoder"
    return "transformer" if transformer else "model"
