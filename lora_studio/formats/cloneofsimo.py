"""The first LoRA format there was (cloneofsimo/lora): layers named by number, `unet:17:up`, in the
order in which the trainer met them. The shapes tell which order that was."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.dialect import Place, spelling
from lora_studio.formats.header import TensorInfo
from lora_studio.formats.positions import position
from lora_studio.formats.sd1_order import CONTEXTS, text_layers, unet_layers

NAME = "cloneofsimo"

_ORDERS = {"unet": unet_layers, "text_encoder": text_layers}
_ROLES = {"down": "A", "up": "B"}


class _Pair(NamedTuple):
    down: tuple[int, ...]
    up: tuple[int, ...]


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether any tensor is named by its component and a number."""
    return spelling(keys) == NAME


def locate(keys: Mapping[str, TensorInfo]) -> dict[str, Place | None]:
    """Places by number; embeddings of new words, which lie beside the factors, are set aside.

    Raises:
        InvalidAdapter: numbers are missing, or the shapes are of no order that is known.
    """
    found: dict[str, Place | None] = {}
    shapes: dict[str, dict[int, dict[str, tuple[int, ...]]]] = {}
    for key, info in keys.items():
        where = position(key)
        if where is None:
            embedding = len(info.shape) <= 2 and info.shape[-1:] in [(n,) for n in CONTEXTS]
            found[key] = Place("", key, key, "aside") if embedding and ":" not in key else None
        else:
            numbered = shapes.setdefault(where.component, {}).setdefault(where.number, {})
            numbered[where.side] = info.shape
    paths = {component: _paths(component, by_number) for component, by_number in shapes.items()}
    for key in keys:
        where = position(key)
        if where is not None:
            path = f"{where.component}.{paths[where.component][where.number]}"
            spelled = f"{where.component}:{where.number}"
            found[key] = Place(where.component, path, spelled, _ROLES[where.side])
    return found


def _paths(component: str, by_number: dict[int, dict[str, tuple[int, ...]]]) -> list[str]:
    pairs: list[_Pair] = []
    for number in range(len(by_number)):
        sides = by_number.get(number, {})
        if len(sides) < 2:
            raise InvalidAdapter(
                f"The layers of {component} are numbered, but 'up' or 'down' of number {number} is "
                "missing, so that what comes after cannot be told. Export the adapter again."
            )
        pairs.append(_Pair(sides["down"], sides["up"]))
    layers = _ORDERS[component](pairs)
    if layers is None:
        raise InvalidAdapter(
            f"The {len(pairs)} numbered layers of {component} have sizes in no order that Stable "
            "Diffusion 1 or 2 has, so their names cannot be told. Convert the file with the "
            "program that trained it."
        )
    return [layer.path for layer in layers]
