"""What a dialect is: a way of naming tensors. Exactly one matches the names of any file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Protocol

from lora_studio.formats import positions, tuners
from lora_studio.formats.cuts import Cut
from lora_studio.formats.header import TensorInfo
from lora_studio.formats.names import has_component, of_transformer, place
from lora_studio.formats.roles import PREFIX, Slot, is_old, split

KOHYA_PREFIXES = ("lora_unet_", "lora_te", "lora_transformer_", "lycoris_")
Spelling = Literal[
    "cloneofsimo", "kohya", "xlabs", "mlx", "peft-tuner", "original", "attention-processor",
    "diffusers", "peft", "",
]  # fmt: skip

DENOISERS = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
ENCODERS = {
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
    "text_encoders.t5xxl.transformer.": "text_encoder_3",
    "clip_l.": "text_encoder",
    "clip_g.": "text_encoder_2",
    "t5.": "text_encoder_3",
}
"""How files that keep the original code's names begin the names of a pipeline's parts."""

_XLABS = re.compile(r"(diffusion_model\.)?(double|single)_blocks\.[0-9]+\.processor\.")
_ORIGINAL = re.compile(
    r"((transformer|unet)\.)?("
    r"((input|output)_blocks|middle_block)\.[0-9]+\."
    r"|(double|single|joint)_blocks\.[0-9]+\."
    r"|blocks\.[0-9]+\.(self|cross)_attn\.(q|k|v|o|k_img|v_img)$"
    r"|(layers|noise_refiner|context_refiner)\.[0-9]+\.attention\.qkv$"
    r")"
)
"""Modules that only the original code of a model has, without any part's name before."""


class Place(NamedTuple):
    """Where a tensor belongs: the module's component and canonical path, the path as the file has
    it, the tensor's role, and what the module is divided into where it is not one of diffusers'.
    The path "" is that of all modules; the role "aside" is that of what is no part of the adapter
    and is left out on purpose."""

    component: str
    path: str
    spelled: str
    role: str
    cut: Cut | None = None


class Dialect(Protocol):
    """A module of this package that reads one way of naming tensors.

    `locate` is given the tensors by name and says where each belongs, None where its name means
    nothing to the dialect.
    """

    NAME: str

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool: ...

    def locate(self, keys: Mapping[str, TensorInfo]) -> dict[str, Place | None]: ...


def spelling(keys: Collection[str]) -> Spelling:
    """How the tensors of a file are named; "" for no way that is read."""
    if any(positions.position(key) for key in keys):
        return "cloneofsimo"
    if any(key.startswith(KOHYA_PREFIXES) for key in keys):
        return "kohya"
    if any(_XLABS.match(key) for key in keys):
        return "xlabs"
    if any(key.endswith((".lora_a", ".lora_b")) for key in keys):
        return "mlx"
    if any(tuners.role(piece) for key in keys for piece in key.split(".")):
        return "peft-tuner"
    slots = [slot for slot in map(split, keys) if slot]
    if not slots:
        return ""
    if any(_is_original(slot.path) for slot in slots):
        return "original"
    if any(is_old(piece) for key in keys for piece in key.split(".")):
        return "attention-processor"
    transformer = of_transformer(slot.path for slot in slots)
    bare = not any(key.startswith(PREFIX) for key in keys)
    named = bare and any(has_component(slot.path, transformer) for slot in slots)
    return "diffusers" if named else "peft"


def _is_original(path: str) -> bool:
    return path.startswith((*DENOISERS[:2], *ENCODERS)) or bool(_ORIGINAL.match(path))


def locate_dotted(keys: Collection[str]) -> dict[str, Place | None]:
    """Places of tensors whose names keep the dots of the module's path."""
    slots = {key: split(key) for key in keys}
    transformer = of_transformer(slot.path for slot in slots.values() if slot)
    return {key: slot and _put(slot, transformer) for key, slot in slots.items()}


def _put(slot: Slot, transformer: bool) -> Place:
    component, path = place(slot.path, transformer)
    return Place(component, path, slot.path, slot.role)
