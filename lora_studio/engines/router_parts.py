"""What token routers need beside the adapters: what follows from their factors, kept while they are
resident, and what was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lora_studio.composition.router_weights import RouterWeights, fitted_router
from lora_studio.composition.token_router import RULES
from lora_studio.engines.row_routing import PlanRouting
from lora_studio.engines.rows import RowPlan
from lora_studio.errors import InvalidRequest, LoraStudioError

Held = tuple[int, str, tuple[Tensor, Tensor], float]
"""Place of a term in its plan, adapter id, its A (r, d_in) and B (d_out, r), its weight."""


class RouterParts:
    """Parts of token routers beside an adapter bank.

    Args:
        base: the base model, whose fitted routers are used where none was given.
    """

    def __init__(self, base: str = "") -> None:
        self._base = base
        self._fitted: dict[str, RouterWeights] = {}
        self._prototypes: dict[str, dict[str, Tensor]] = {}

    def equip(self, weights: RouterWeights) -> None:
        """Uses this of a rule, in place of what lies beside the base model."""
        self._fitted[weights.rule] = weights

    def forget(self, adapter_id: str) -> None:
        """Drops what was worked out for an adapter."""
        self._prototypes.pop(adapter_id, None)

    def fitted(self, plan: RowPlan) -> RouterWeights | None:
        """What was fitted of a plan's rule; None for a rule that needs nothing fitted.

        Raises:
            InvalidRequest: it was not fitted.
        """
        if plan.router is None or not RULES.get(plan.router.rule).fitted:
            return None
        rule = plan.router.rule
        return self._fitted.get(rule) or fitted_router(self._base, rule)

    def of(
        self, plan: RowPlan, module: str, pieces: Sequence[Held], weights: RouterWeights | None
    ) -> PlanRouting | None:
        """The token router of a plan in a module; None where it has none, or nobody acts.

        Args:
            weights: of the plan, as `fitted` gives them.

        Raises:
            InvalidRequest: the rule was fitted without one of these adapters.
        """
        if plan.router is None or not pieces:
            return None
        if plan.fuse:
            raise LoraStudioError("A plan that averages factors has no units to route among.")
        like = pieces[0][2][0]
        owners = [place for place, _, (a, _), _ in pieces for _ in range(len(a))]
        extras: dict[str, Tensor] = {}
        needs = RULES.get(plan.router.rule).needs
        if "norms" in needs:
            extras["norms"] = torch.cat(
                [b.float().norm(dim=0) * abs(w) for *_, (_, b), w in pieces]
            )
        if "prototypes" in needs:
            found = {place: self._prototype(i, module, pair) for place, i, pair, _ in pieces}
            extras["prototypes"] = _placed(found, len(plan.terms))
        query = None
        if weights is not None and "query" in needs:
            query = _query(weights, module, like)
        elif weights is not None:
            keys = {place: _keys(weights, i, module, like) for place, i, *_ in pieces}
            if "unit_keys" in needs:
                extras["unit_keys"] = torch.cat(list(keys.values()))
            else:
                first = {place: rows[0] for place, rows in keys.items()}
                extras["adapter_keys"] = _placed(first, len(plan.terms))
        places = torch.tensor(owners, device=like.device)
        return PlanRouting(plan.router, places, len(plan.terms), extras, query)

    def _prototype(self, adapter_id: str, module: str, pair: tuple[Tensor, Tensor]) -> Tensor:
        known = self._prototypes.setdefault(adapter_id, {})
        if module not in known:
            known[module] = prototype(*pair)
        return known[module]


def _keys(weights: RouterWeights, adapter_id: str, module: str, like: Tensor) -> Tensor:
    rows = weights.keys.get(adapter_id, {}).get(module)
    if rows is None:
        raise InvalidRequest(
            f"The {weights.rule} gate was fitted without adapter {adapter_id[:12]}."
        )
    return _tensor(rows, like)


def _query(weights: RouterWeights, module: str, like: Tensor) -> tuple[Tensor, Tensor] | None:
    pair = weights.queries.get(module)
    return pair and (_tensor(pair[0], like), _tensor(pair[1], like))


def prototype(a: Tensor, b: Tensor) -> Tensor:
    """(d_in,) the first right singular vector of b @ a, which is never formed; its sign is open."""
    q, r = torch.linalg.qr(a.float().mT)  # (d_in, r), (r, r)
    core = b.float() @ r.mT  # (d_out, r)
    _, vectors = torch.linalg.eigh(core.mT @ core)  # ascending
    return q @ vectors[:, -1]


def _placed(values: dict[int, Tensor], count: int) -> Tensor:
    """(count, d) with zeros at places that have none."""
    first = next(iter(values.values()))
    whole = first.new_zeros(count, *first.shape)
    for place, value in values.items():
        whole[place] = value
    return whole


def _tensor(values: np.ndarray | Tensor, like: Tensor) -> Tensor:
    """In float32 beside the adapters; tensors, as while a router is fitted, stay what they are."""
    if isinstance(values, torch.Tensor):
        return cast("Tensor", values)
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(like.device)
