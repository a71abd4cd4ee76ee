"""What a dialect is: a way of naming tensors. Exactly one matches the names of any file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Protocol

from lora_studio.formats import positions, tuners
from lora_studio.formats.header import TensorInfo
from lora_studio.formats.names import has_component, of_transformer, place
from lora_studio.formats.roles import PREFIX, Slot, is_old, split

KOHYA_PREFIXES = ("lora_unet_", "lora_te", "lora_transformer_", "lycoris_")
Spelling = Literal[
    "cloneofsimo", "kohya", "mlx", "peft-tuner", "attention-processor", "diffusers", "peft", ""
]


class Place(NamedTuple):
    """Where a tensor belongs: the module's component and canonical path, the path as the file has
    it, and the tensor's role. The path "" is that of all modules; the role "aside" is that of what
    is no part of the adapter and is left out on purpose."""

    component: str
    path: str
    spelled: str
    role: str


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
    if any(key.endswith((".lora_a", ".lora_b")) for key in keys):
        return "mlx"
    if any(tuners.role(piece) for key in keys for piece in key.split(".")):
        return "peft-tuner"
    slots = [slot for slot in map(split, keys) if slot]
    if not slots:
        return ""
    if any(is_old(piece) for key in keys for piece in key.split(".")):
        return "attention-processor"
    transformer = of_transformer(slot.path for slot in slots)
    bare = not any(key.startswith(PREFIX) for key in keys)
    named = bare and any(has_component(slot.path, transformer) for slot in slots)
    return "diffusers" if named else "peft"


def locate_dotted(keys: Collection[str]) -> dict[str, Place | None]:
    """Places of tensors whose names keep the dots of the module's path."""
    slots = {key: split(key) for key in keys}
    transformer = of_transformer(slot.path for slot in slots.values() if slot)
    return {key: slot and _put(slot, transformer) for key, slot in slots.items()}


def _put(slot: Slot, transformer: bool) -> Place:
    component, path = place(slot.path, transformer)
    return Place(component, path, slot.path, slot.role)
