"""The units of a composition on the map of its sources: where they lie, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.shares import unpacked
from lora_studio.errors import InvalidRequest
from lora_studio.rank_units import UnitPool, ownership, pool_units

Owners = Callable[[str, UnitPool], np.ndarray]
"""(module, units of the result in it) -> uint8 (units, sources) shares."""


def nobody(name: str, units: UnitPool) -> np.ndarray:
    return np.zeros((0, 0), np.uint8)


def owners(adapters: Sequence[Adapter], result: Adapter, args: Mapping[str, Any]) -> Owners:
    """Shares as the method of the result gave them, where it did and the units are those it made;
    from the geometry of the factors else."""
    given, ids = args["result"], [s["id"] for s in args["sources"]]
    of = given.get("of") or []
    known = unpacked(given.get("shares") or "", result.ranks, len(of)) if of else {}

    def owned(name: str, units: UnitPool) -> np.ndarray:
        if not len(units):
            return np.zeros((0, len(ids)), np.uint8)
        if name in known and args["basis"] == "raw":
            table = dict(zip(of, known[name][:, units.index], strict=True))
            none = np.zeros(len(units), np.float32)
            shares = np.stack([table.get(i, none) for i in ids])
        else:
            shares = ownership(units.A, units.B, [a.factors.get(name) for a in adapters])
        return np.rint(255 * np.clip(shares.T, 0, 1)).astype(np.uint8)

    return owned


def with_result(
    pool: UnitPool,
    factors: Sequence[LoraFactors | None],
    weights: Sequence[float],
    module: LoraFactors,
    args: Mapping[str, Any],
) -> UnitPool:
    """The pool with the units of the result behind those of the sources."""
    if (module.d_in, module.d_out) != (pool.A.shape[1], pool.B.shape[1]):
        raise InvalidRequest("The composition belongs to another base model than these adapters.")
    return pool_units([*factors, module], [*weights, 1.0], basis=args["basis"], gauge=args["gauge"])
