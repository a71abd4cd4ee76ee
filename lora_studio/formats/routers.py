"""Mixtures of LoRA experts: files with a router, which decides at run time and for every token
which experts act. They are recognised, described and refused: no one update stands for them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.header import TensorInfo

_ROUTERS = ("lora_router", "lora_route", "lora_gate", "moe_gate", "xlora", "lily_router")
_RANK_BIASES = ("lora_topk_bias", "lora_biases")
"""By these FlyLoRA and SMoRA balance how often each rank, which is an expert there, is chosen."""
_BASE_ROUTERS = ("router", "gate", "gating")
"""Names that a base model's own router has too: they count only where LoRA experts are numbered."""
_FACTORS = ("lora_a", "lora_b", "lora_down", "lora_up")
_NAMES = {
    "mixlora": "MixLoRA",
    "loramoe": "LoRAMoE",
    "mola.": "MoLA",
    "xlora": "X-LoRA",
    "lily_router": "Lily",
    "lora_biases": "SMoRA",
    "lora_topk_bias": "FlyLoRA",
}
_MAX_DIGITS = 4


class Mixture(NamedTuple):
    """What a file with routers holds.

    Args:
        name: of the method, "" if it is not known.
        routers: layers that have one. experts: most experts of a layer, 0 where each rank is one.
        ranks: of all experts, distinct, ascending.
    """

    name: str
    routers: int
    experts: int
    ranks: tuple[int, ...]


def find(tensors: Mapping[str, TensorInfo]) -> Mixture | None:
    """The mixture a file is, or None if it is none.

    LoRA factors *of* a base model's router and experts make none: there the base routes, and what
    the file holds are ordinary factors.
    """
    pieces = {key: key.lower().split(".") for key in tensors}
    factors = [key for key in tensors if any(p.startswith(_FACTORS) for p in pieces[key])]
    numbers = {n for key in factors if (n := _number_of_copy(pieces[key])) is not None}
    own = {r for key in tensors if (r := _router(pieces[key], _ROUTERS + _RANK_BIASES))}
    experts = {n for key in factors if (n := _number_of_expert(pieces[key])) is not None}
    if not own and (
        len(numbers) > 1 or any(key.lower().startswith(tuple(_NAMES)) for key in tensors)
    ):
        others = set(tensors) - set(factors)
        own = {r for key in others if (r := _router(pieces[key], _BASE_ROUTERS))}
    if not own and len(numbers) < 2:
        return None
    count = max(numbers | experts, default=-1) + 1
    shapes = [tensors[key].shape for key in factors]
    ranks = sorted({min(shape) for shape in shapes if len(shape) > 1})
    text = "\n".join(tensors).lower()
    name = next((title for mark, title in _NAMES.items() if mark in text), "")
    return Mixture(name, len(own), count, tuple(ranks))


def refuse(tensors: Mapping[str, TensorInfo]) -> None:
    """Raises InvalidAdapter with what was found and why it cannot be used, if it is a mixture."""
    found = find(tensors)
    if found is None:
        return
    ranks = " to ".join(str(rank) for rank in sorted({*found.ranks[:1], *found.ranks[-1:]}))
    what = f"up to {found.experts} experts a layer" if found.experts else "every rank an expert"
    kind = f" ({found.name})" if found.name else ""
    raise InvalidAdapter(
        f"This is a mixture of LoRA experts{kind}: routers in {found.routers} layers, {what}, "
        f"rank {ranks or 'unknown'}. Its router chooses experts anew for every token, so that no "
        "one update stands for it: it can neither be merged nor kept as factors here. Upload its "
        "experts one by one as ordinary LoRA adapters and compose them with a routing method.",
        "adapter-type",
    )


def _router(pieces: list[str], names: tuple[str, ...]) -> str:
    """Path of the layer whose router a tensor is part of, or ""."""
    if any(piece.startswith(_FACTORS) for piece in pieces):
        return ""
    found = (n for n, piece in enumerate(pieces) if piece.startswith(names))
    place = next(found, None)
    exact = names is _BASE_ROUTERS
    if place is None or (exact and pieces[place] not in names):
        return ""
    return ".".join(pieces[:place]) or "model"


def _number_of_copy(pieces: list[str]) -> int | None:
    """The number right after `lora_A`, by which copies of one factor are told apart."""
    after = (b for a, b in pairwise(pieces) if a.startswith(_FACTORS))
    return next((int(piece) for piece in after if _is_number(piece)), None)


def _number_of_expert(pieces: list[str]) -> int | None:
    after = (b for a, b in pairwise(pieces) if a in ("experts", "loras"))
    return next((int(piece) for piece in after if _is_number(piece)), None)


def _is_number(piece: str) -> bool:
    return piece.isascii() and piece.isdecimal() and len(piece) <= _MAX_DIGITS
