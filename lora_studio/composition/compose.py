"""From a recipe, or straight from adapters, to a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.method import METHODS, Inputs, Progress, no_progress
from lora_studio.composition.plan import Plan
from lora_studio.composition.probe import ModelProbe
from lora_studio.composition.recipe import Recipe, Source
from lora_studio.errors import IncompatibleAdapters, InvalidRequest

Lookup = Callable[[str], Adapter]


def compose(
    method: str,
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None = None,
    *,
    seed: int = 0,
    probe: ModelProbe | None = None,
    **params: Any,
) -> Plan:
    """Composes adapters by a registered method: the notebook's one call.

    Args:
        method: a name from `methods()`, such as "lego".
        weights: one per adapter; all 1 by default.
        params: the method's own parameters.

    Raises:
        NotFound: no such method. InvalidRequest: a bad parameter. IncompatibleAdapters: the
        adapters belong to different base models or sizes.
    """
    given = [1.0] * len(adapters) if weights is None else [float(w) for w in weights]
    if not adapters or len(given) != len(adapters):
        raise InvalidRequest(f"{len(adapters)} adapters and {len(given)} weights; need one each.")
    _check_base(adapters)
    return METHODS.get(method)(Inputs(adapters, given, seed=seed, probe=probe), **params)


def run_recipe(
    recipe: Recipe,
    lookup: Lookup,
    *,
    probe: ModelProbe | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """Carries out a recipe; `lookup` gives the adapter of an id.

    Raises:
        InvalidRequest, NotFound, IncompatibleAdapters: as `compose`.
    """
    active = recipe.active
    if not active:
        raise InvalidRequest("No adapter takes part: switch one on and give it a weight.")
    method = METHODS.get(recipe.method)
    if method.kind == "routing" and any(s.units or s.module_weights for s in active):
        raise InvalidRequest(
            "A routed plan uses whole adapters. Choose units or module weights in a merge, and "
            "route to what comes of it."
        )
    adapters = [choose_units(lookup(source.id), source) for source in active]
    _check_base(adapters)
    inputs = Inputs(
        adapters=adapters,
        weights=[source.weight for source in active],
        seed=recipe.seed,
        ids=[source.id for source in active],
        probe=probe,
        progress=progress,
    )
    return method(inputs, **recipe.params)


def choose_units(adapter: Adapter, source: Source) -> Adapter:
    """The adapter with only the chosen rank units, and its modules at their own weights.

    Raises:
        InvalidRequest: a module or unit the adapter does not have.
    """
    if not source.units and not source.module_weights:
        return adapter
    strangers = (source.units.keys() | source.module_weights.keys()) - adapter.factors.keys()
    if strangers:
        raise InvalidRequest(f"The adapter has no module '{min(strangers)}'.")
    factors: dict[str, LoraFactors] = {}
    for name, module in adapter.factors.items():
        kept = _kept(name, module.rank, source.units.get(name, {}))
        factor = source.module_weights.get(name, 1.0)
        if len(kept) and factor:
            chosen = module if len(kept) == module.rank else _rows(module, kept)
            factors[name] = chosen.scaled(factor)
    if not factors:
        raise InvalidRequest("No rank unit is left of an adapter; switch the adapter off instead.")
    return replace(adapter, factors=factors)


def _rows(module: LoraFactors, kept: np.ndarray) -> LoraFactors:
    return replace(module, A=module.A[kept], B=module.B[:, kept])


def _kept(name: str, rank: int, choice: Mapping[str, list[int]]) -> np.ndarray:
    indices = [i for chosen in choice.values() for i in chosen]
    if any(i >= rank for i in indices):
        raise InvalidRequest(f"'{name}' has units 0 to {rank - 1}; {max(indices)} was named.")
    mask = np.full(rank, "include" not in choice)
    mask[indices] = "include" in choice
    return np.flatnonzero(mask)


def _check_base(adapters: Sequence[Adapter]) -> None:
    bases = sorted({a.card.base_model for a in adapters if a.card.base_model})
    if len(bases) > 1:
        raise IncompatibleAdapters(
            f"These adapters belong to different base models ({', '.join(bases)}). "
            "Choose adapters of one base model."
        )
