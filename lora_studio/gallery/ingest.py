"""What is measured of an adapter once, when it enters the gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.families.blocks import block_norms
from lora_studio.gallery.entry import Entry, EntryKind
from lora_studio.rank_units.measures import measure

_MAX_LAYERS = 1024
_LARGE_RMS = 0.1
"""Root mean square of a dense update; base weights of language models lie near 0.02."""


def describe(
    adapter: Adapter,
    size: int,
    recipe: str = "",
    kind: EntryKind | None = None,
    owner: str = "",
    visibility: str = "public",
    thumbnail: str = "",
    measures: Mapping[str, Any] | None = None,
) -> Entry:
    """The entry of `adapter`; dynamic fields (created, deleted, described_by) are left open.

    Args:
        size: bytes of the stored file.
        recipe: id of the recipe that made it, or "" to keep the card's.
        thumbnail: digest of its picture, "" for none.
        kind: where it came from, or None to tell by its recipe, parents and owner.
        measures: the figures of its report card, if they have been taken.
    """
    composed = bool(recipe or adapter.card.recipe or adapter.card.parents)
    origin: EntryKind = "composed" if composed else "demo" if owner == "demo" else "uploaded"
    norms = {name: module.norm() for name, module in adapter.factors.items()}
    card = asdict(adapter.card)
    card["title"] = card["title"].strip() or f"Adapter {adapter.id[:8]}"
    card["recipe"] = recipe or card["recipe"]
    return Entry(
        **card,
        id=adapter.id,
        ranks=tuple(sorted(set(adapter.ranks.values()))),
        max_rank=adapter.max_rank,
        modules=len(adapter.factors),
        module_kinds=tuple(dict.fromkeys(_kind(name) for name in adapter.factors)),
        parameters=adapter.parameters,
        bytes=size,
        norm=_finite(np.sqrt(sum(n * n for n in norms.values()))),
        layer_norms=_depth_norms(adapter, norms),
        warnings=tuple(_warnings(adapter, norms)),
        modality=adapter.modality,
        components=adapter.components,
        thumbnail=thumbnail,
        kind=kind or origin,
        owner=owner,
        visibility=visibility,
        measures=dict(measures or measure(adapter)),
    )


def _kind(module: str) -> str:
    names = [part for part in module.split(".") if not part.isdigit()]
    return names[-1] if names else module


def _layer(module: str) -> int | None:
    numbers = [int(part) for part in module.split(".") if part.isdecimal() and len(part) < 6]
    return numbers[0] if numbers and numbers[0] < _MAX_LAYERS else None


def _depth_norms(adapter: Adapter, norms: dict[str, float]) -> tuple[float, ...]:
    if adapter.modality == "image":
        return tuple(_finite(norm) for norm in block_norms(norms.items()).values())
    return _layer_norms(norms)


def _layer_norms(norms: dict[str, float]) -> tuple[float, ...]:
    squares: dict[int, float] = {}
    for name, norm in norms.items():
        layer = _layer(name)
        if layer is not None:
            squares[layer] = squares.get(layer, 0.0) + norm * norm
    count = max(squares, default=-1) + 1
    return tuple(_finite(np.sqrt(squares.get(layer, 0.0))) for layer in range(count))


def _warnings(adapter: Adapter, norms: dict[str, float]) -> list[str]:
    found: list[str] = []
    total = len(norms)
    if not total:
        return ["It has no modules: it changes nothing."]
    zero = sum(norm == 0 for norm in norms.values())
    if zero == total:
        found.append("Every update is zero: it changes nothing.")
    elif zero:
        found.append(f"The updates of {zero} of {total} modules are zero.")
    broken = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if broken:
        found.append(f"The updates of {len(broken)} of {total} modules are not finite numbers.")
    large = [name for name, m in adapter.factors.items() if _rms(m, norms[name]) > _LARGE_RMS]
    if large:
        found.append(
            f"The updates of {len(large)} of {total} modules are unusually large; "
            "a lower weight may be needed."
        )
    if any(module.magnitude is not None for module in adapter.factors.values()):
        found.append("It carries DoRA magnitudes, which not every method can use.")
    return found


def _rms(module: LoraFactors, norm: float) -> float:
    return norm / float(np.sqrt(module.d_in * module.d_out)) if np.isfinite(norm) else 0.0


def _finite(value: float) -> float:
    """JSON has no infinity: values beyond float64 are given as its largest number."""
    return float(np.nan_to_num(value))
