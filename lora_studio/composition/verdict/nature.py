"""How a method treats updates, found by trying it on small adapters, so that none has to say."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition.method import METHODS, Inputs
from lora_studio.composition.plan import Merged
from lora_studio.errors import LoraStudioError

ALIKE = 1e-3
"""Share by which two results may differ and still be the same."""
DRAWN = 0.1
"""Share by which they must differ to be two draws."""
SMALL = 3
"""Rank of the small adapters, and most clusters or directions that are asked for."""
WIDE = 256


@dataclass(frozen=True)
class Nature:
    """How a method treats updates.

    Args:
        alike: all directions alike: turning the inputs and outputs of the modules turns its result.
        drawn: another seed gives another result.
        sized: the size of the layer matters beside what is in it: in as few dimensions as there
            are units, the result is another.
        dense: it makes whole updates, of d_out times d_in numbers, on its way.
    """

    alike: bool
    drawn: bool
    sized: bool
    dense: bool


def nature(name: str, params: Mapping[str, Any]) -> Nature:
    """The nature of a method under these parameters; found once, then remembered."""
    given = {k: min(v, SMALL) if k == "rank" else v for k, v in params.items()}
    return _nature(name, tuple(sorted(given.items())))


@lru_cache(maxsize=512)
def _nature(name: str, params: tuple[tuple[str, Any], ...]) -> Nature:
    rng = np.random.default_rng(0)
    turns = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (11, 13)]
    plain = [_small(rng, rank, 11, 13) for rank in (SMALL, SMALL - 1)]
    tight = _spaces(plain)
    given = dict(params)
    try:
        made = _try(name, given, plain, 0)
        other = _try(name, given, plain, 1)
        turned = _try(name, given, [_moved(one, *turns) for one in plain], 0)
        squeezed = _try(name, given, [_squeezed(one, tight) for one in plain], 0)
        dense = _dense(name, given, [_small(rng, SMALL, WIDE, WIDE) for _ in range(2)])
    except LoraStudioError:
        return Nature(alike=False, drawn=False, sized=True, dense=False)
    alike = _apart(_moved(made, *turns), turned) < ALIKE
    sized = _apart(made, _squeezed(squeezed, tight, back=True)) > ALIKE
    return Nature(alike, _apart(made, other) > DRAWN, sized, dense)


def _dense(name: str, params: Mapping[str, Any], adapters: Sequence[Adapter]) -> bool:
    """Whether more memory is taken than one whole update has."""
    if tracemalloc.is_tracing():
        return False
    tracemalloc.start()
    try:
        _try(name, params, adapters, 0)
        return tracemalloc.get_traced_memory()[1] > 4 * WIDE * WIDE
    finally:
        tracemalloc.stop()


def _try(name: str, params: Mapping[str, Any], adapters: Sequence[Adapter], seed: int) -> Adapter:
    plan = METHODS.get(name)(Inputs(adapters, [1.0, 0.7], seed, ["one", "two"]), **params)
    assert isinstance(plan, Merged)
    return plan.adapter


def _apart(one: Adapter, two: Adapter) -> float:
    """Norm of the difference over the norm of the first."""
    pairs = [(m.delta(), two.factors[n].delta()) for n, m in one.factors.items()]
    square = sum(float((d**2).sum()) for d, _ in pairs)
    return float(np.sqrt(sum(float(((d - e) ** 2).sum()) for d, e in pairs) / max(square, 1e-12)))


def _small(rng: np.random.Generator, rank: int, d_in: int, d_out: int) -> Adapter:
    factors = {
        f"layers.{i}.m": LoraFactors(
            rng.standard_normal((rank, d_in)).astype(np.float32),
            rng.standard_normal((d_out, rank)).astype(np.float32),
        )
        for i in range(2)
    }
    return Adapter(factors, AdapterCard(base_model="x"))


def _moved(adapter: Adapter, right: np.ndarray, left: np.ndarray) -> Adapter:
    factors = {
        n: replace(m, A=(m.A @ right.T).astype(np.float32), B=(left @ m.B).astype(np.float32))
        for n, m in adapter.factors.items()
    }
    return replace(adapter, factors=factors)


Spaces = dict[str, tuple[np.ndarray, np.ndarray]]
"""Module -> orthonormal columns that span all its inputs, and all its outputs."""


def _spaces(adapters: Sequence[Adapter]) -> Spaces:
    found: Spaces = {}
    for name in adapters[0].factors:
        modules = [adapter.factors[name] for adapter in adapters]
        inputs = np.linalg.qr(np.concatenate([m.A for m in modules]).T)[0]
        outputs = np.linalg.qr(np.concatenate([m.B for m in modules], axis=1))[0]
        found[name] = inputs, outputs
    return found


def _squeezed(adapter: Adapter, spaces: Spaces, *, back: bool = False) -> Adapter:
    """The adapter in coordinates of these spaces, or back from them."""
    factors = {}
    for name, module in adapter.factors.items():
        inputs, outputs = spaces[name]
        a = module.A @ (inputs.T if back else inputs)
        b = (outputs if back else outputs.T) @ module.B
        factors[name] = replace(module, A=a.astype(np.float32), B=b.astype(np.float32))
    return replace(adapter, factors=factors)
