"""Names that are numbers: `unet:17:up` is the upper factor of the UNet's 18th layer."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

COMPONENTS = ("unet", "text_encoder")
_MAX_DIGITS = 5


class Position(NamedTuple):
    """Component, number of the layer from 0, and which factor of it."""

    component: str
    number: int
    side: Literal["up", "down"]


def position(key: str) -> Position | None:
    """The position a tensor's name stands for, or None if it is no such name."""
    pieces = key.split(":")
    if len(pieces) != 3 or pieces[0] not in COMPONENTS or pieces[2] not in ("up", "down"):
        return None
    number = pieces[1]
    plain = number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS
    if not plain or number != str(int(number)):
        return None
    return Position(pieces[0], int(number), cast(Literal["up", "down"], pieces[2]))
