"""From a recipe, or straight from adapters, to a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.gate import Gate, gate_for
from lora_studio.composition.method import METHODS, Inputs, Progress, no_progress
from lora_studio.composition.module_weights import module_factors
from lora_studio.composition.plan import Plan
from lora_studio.composition.probe import ModelProbe
from lora_studio.composition.recipe import Recipe, Source
from lora_studio.composition.region import checked_region
from lora_studio.composition.schedule import Scheduled
from lora_studio.errors import IncompatibleAdapters, InvalidRequest

Lookup = Callable[[str], Adapter]


def compose(
    method: str,
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None = None,
    *,
    seed: int = 0,
    probe: ModelProbe | None = None,
    family: str = "",
    gate: Gate | None = None,
    regions: Sequence[Mapping[str, Any]] = (),
    **params: Any,
) -> Plan:
    """Composes adapters by a registered method: the notebook's one call.

    Args:
        method: a name from `methods()`, such as "lego".
        weights: one per adapter; all 1 by default.
        family: of the base model ("sd1", "sdxl", ...), for methods made for some only.
        gate: of the base model, for methods that need one.
        regions: one per adapter, as in a recipe, for methods that place adapters.
        params: the method's own parameters.

    Raises:
        NotFound: no such method. InvalidRequest: a bad parameter, or a method for other models.
        IncompatibleAdapters: the adapters belong to different base models or sizes.
    """
    given = [1.0] * len(adapters) if weights is None else [float(w) for w in weights]
    if not adapters or len(given) != len(adapters):
        raise InvalidRequest(f"{len(adapters)} adapters and {len(given)} weights; need one each.")
    _check_base(adapters)
    checked = [checked_region(region) for region in regions]
    inputs = Inputs(
        adapters, given, seed=seed, probe=probe, family=family, regions=checked, gate=gate
    )
    return METHODS.get(method)(inputs, **params)


def run_recipe(
    recipe: Recipe,
    lookup: Lookup,
    *,
    probe: ModelProbe | None = None,
    progress: Progress = no_progress,
    family: str = "",
    gate: Gate | None = None,
    stream: bool = False,
) -> Plan:
    """Carries out a recipe; `lookup` gives the adapter of an id, `gate` stands in for the one that
    lies beside the base model. Under `stream` the modules of a merge are made as they are written.

    A denoising plan names its adapters by id. One that acts with a choice of units or with weights
    by module is named "<id>#<digest of what is left>" and stands in `Scheduled.replaced`.

    Raises:
        InvalidRequest, NotFound, IncompatibleAdapters: as `compose`.
    """
    active = recipe.active
    if not active:
        raise InvalidRequest("No adapter takes part: switch one on and give it a weight.")
    method = METHODS.get(recipe.method)
    method.refuse(recipe.modality, family)
    if method.kind == "routing" and any(s.units or s.module_weights for s in active):
        raise InvalidRequest(
            "A routed plan uses whole adapters. Choose units or module weights in a merge, and "
            "route to what comes of it."
        )
    adapters = [choose_units(lookup(source.id), source) for source in active]
    _check_base(adapters)
    whole = method.kind != "denoising"
    ids = [s.id if whole else _run_id(s, a) for s, a in zip(active, adapters, strict=True)]
    inputs = Inputs(
        adapters=adapters,
        weights=[source.weight for source in active],
        seed=recipe.seed,
        ids=ids,
        probe=probe,
        progress=progress,
        family=family,
        regions=[source.region for source in active],
        gate=gate or (gate_for(recipe.base.get("repo", "")) if method.uses_gate else None),
        stream=stream,
    )
    plan = method(inputs, **recipe.params)
    if not isinstance(plan, Scheduled):
        return plan
    cut = {i: a for i, a, s in zip(ids, adapters, active, strict=True) if i != s.id}
    return replace(plan, replaced=cut)


def choose_units(adapter: Adapter, source: Source) -> Adapter:
    """The adapter with only the chosen rank units, and its modules at their own weights.

    Raises:
        InvalidRequest: a module, beginning of modules' names, or unit the adapter does not have.
    """
    if not _is_cut(source):
        return adapter
    strangers = source.units.keys() - adapter.factors.keys()
    if strangers:
        raise InvalidRequest(f"The adapter has no module '{min(strangers)}'.")
    factors: dict[str, LoraFactors] = {}
    weights = module_factors(source.module_weights, adapter.factors.keys())
    for name, module in adapter.factors.items():
        kept = _kept(name, module.rank, source.units.get(name, {}))
        if len(kept) and (factor := weights[name]):
            chosen = module if len(kept) == module.rank else _rows(module, kept)
            factors[name] = chosen.scaled(factor)
    if not factors:
        raise InvalidRequest("No rank unit is left of an adapter; switch the adapter off instead.")
    return replace(adapter, factors=factors)


def _is_cut(source: Source) -> bool:
    return bool(source.units or source.module_weights)


def _run_id(source: Source, adapter: Adapter) -> str:
    return f"{source.id}#{adapter.id[:16]}" if _is_cut(source) else source.id


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
    if len({a.modality for a in adapters}) > 1:
        raise IncompatibleAdapters(
            "Some of these adapters are for text models and some for image models. Choose adapters "
            "of one kind."
        )
    bases = sorted({a.card.base_model for a in adapters if a.card.base_model})
    if len(bases) > 1:
        raise IncompatibleAdapters(
            f"These adapters belong to different base models ({', '.join(bases)}). "
            "Choose adapters of one base model."
        )
