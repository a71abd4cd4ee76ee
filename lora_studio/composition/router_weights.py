"""What was fitted for a token router: a file beside its base model or among the studio's data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lora_studio.composition.plan import Plan, Routed
from lora_studio.composition.token_router import RULES
from lora_studio.errors import InvalidRequest
from lora_studio.fitted import find

Query = tuple[np.ndarray, np.ndarray]
"""A (rank, d_in) and B (d_out, rank) of one module."""


@dataclass(frozen=True, eq=False)
class RouterWeights:
    """Fitted parts of one rule for one base model.

    Args:
        rule: name of the token router.
        queries: module -> a LoRA of the router's own (`router_lora`).
        keys: adapter id -> module -> (items, d_in [+ 1]) rows of the adapter (`smora`: one for each
            unit, and its bias; `meteora`: one).
        facts: how it was fitted.
    """

    rule: str
    queries: Mapping[str, Query] = field(default_factory=dict)
    keys: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def router_for(base: str, rule: str) -> RouterWeights | None:
    """What was fitted of a rule for a base model, or None."""
    path = find(rule, base)
    return _kept(path, path.stat().st_mtime_ns) if path else None


def check_fitted(plan: Plan, base: str) -> None:
    """Raises InvalidRequest, as `fitted_router`, if a plan needs what was not fitted."""
    if isinstance(plan, Routed) and plan.router and RULES.get(plan.router.rule).fitted:
        fitted_router(base, plan.router.rule, plan.weights)


@lru_cache(maxsize=4)
def _kept(path: Path, changed: int) -> RouterWeights:
    """A file as it was at a time, read once."""
    return load_router(path)


def fitted_router(base: str, rule: str, ids: Iterable[str] = ()) -> RouterWeights:
    """As `router_for`, with what is missing told.

    Args:
        ids: adapters that are to be routed among.

    Raises:
        InvalidRequest: the rule was not fitted for the base model, or without one of the adapters.
    """
    found = router_for(base, rule)
    if found is None:
        raise InvalidRequest(
            f"Nothing was fitted for {rule} and this base model. Run `lora-studio train-router "
            f"--rule {rule}`, or choose a rule that needs no fitting, such as Arrow."
        )
    missing = [i for i in ids if i not in found.keys] if found.keys else []
    if missing:
        raise InvalidRequest(
            f"The {rule} gate was fitted without {len(missing)} of these adapters "
            f"({', '.join(i[:12] for i in missing[:3])}). Run `lora-studio train-router --rule "
            f"{rule}` with them, or choose RouterLoRA, which serves adapters it never saw."
        )
    return found


def save_router(weights: RouterWeights, path: Path) -> None:
    """Writes a safetensors file in float16 with rule and facts in its header."""
    tensors = {f"query/{m}/{part}": v for m, q in weights.queries.items()
               for part, v in zip("AB", q, strict=True)}  # fmt: skip
    tensors |= {f"key/{i}/{m}": v for i, rows in weights.keys.items() for m, v in rows.items()}
    half = {name: np.ascontiguousarray(value, dtype=np.float16) for name, value in tensors.items()}
    header = {"rule": weights.rule, "facts": json.dumps(dict(weights.facts), sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, path, header)


def load_router(path: Path) -> RouterWeights:
    """Reads what `save_router` wrote.

    Raises:
        InvalidRequest: the file is none of that kind.
    """
    halves: dict[str, dict[str, np.ndarray]] = {}
    keys: dict[str, dict[str, np.ndarray]] = {}
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            rule, facts = header["rule"], json.loads(header["facts"])
            for name in file.keys():  # noqa: SIM118  (no mapping)
                kind, first, second = name.split("/")
                table = halves if kind == "query" else keys
                table.setdefault(first, {})[second] = file.get_tensor(name).astype(np.float32)
        queries = {module: (parts["A"], parts["B"]) for module, parts in halves.items()}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InvalidRequest(f"{path.name} cannot be read as a fitted router: {error}") from error
    return RouterWeights(rule, queries, keys, facts)
