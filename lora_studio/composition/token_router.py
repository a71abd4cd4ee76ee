"""Routers that decide per token and per module: how much of each rank unit passes.

Adapters side by side are one large LoRA: out = base + B diag(g(x)) A x, where A (R, d_in) stacks
them and B (d_out, R) joins them, and a router is a choice of g (SMoRA, arXiv 2501.15103). One that
weighs whole adapters gives all units of an adapter the same value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lora_studio.errors import InvalidRequest
from lora_studio.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Need = Literal["norms", "prototypes", "adapter_keys", "unit_keys", "query"]
"""norms: length of each unit's write vector. prototypes: each adapter's first right singular
vector. adapter_keys, unit_keys: fitted vectors of each adapter or unit. query: a fitted LoRA of the
router's own, one for all adapters."""


@dataclass(frozen=True)
class TokenRouter:
    """A rule and its settings, as a plan carries them.

    Args:
        rule: name in `RULES`.
        params: (name, value) pairs in the order of their names.
    """

    rule: str
    params: tuple[tuple[str, float | str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.rule, "params": dict(self.params)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenRouter:
        """Reads what `to_dict` wrote.

        Raises:
            NotFound: no such rule. InvalidRequest: a setting that is no finite number or word.
        """
        rule = RULES.get(str(data.get("rule"))).name
        params: Mapping[str, Any] = data.get("params") or {}
        for name, value in params.items():
            number = isinstance(value, int | float) and math.isfinite(value)
            if not isinstance(value, str) and not number:
                raise InvalidRequest(f"The router's {name} is {value!r}; expected a finite number.")
        return router(rule, **params)


def router(rule: str, **params: float | str) -> TokenRouter:
    """A token router with its settings by name."""
    return TokenRouter(rule, tuple(sorted(params.items())))


@dataclass(frozen=True, eq=False)
class Seen:
    """What a router sees of one module, for n rows of T tokens with R units of E adapters.

    Shapes that begin with n may begin with 1: the same for every row. All in float32.

    Args:
        x: (n, T, d_in) the module's input.
        z: (n, T, R) = A x, what each unit reads.
        B: (n, d_out, R) what each unit writes, strengths included.
        member: (n, R, E) 1 where a unit is an adapter's.
        present: (n, 1, E) true where a row has such an adapter; one without this module counts.
        extras: what the rule needs, by `Need`; prototypes and adapter_keys (n, E, d_in), unit_keys
            (n, R, d_in), norms (n, R).
        query: A (rank, d_in) and B (d_out, rank) of a fitted router, or None.
    """

    x: Tensor
    z: Tensor
    B: Tensor
    member: Tensor
    present: Tensor
    extras: Mapping[str, Tensor]
    query: tuple[Tensor, Tensor] | None = None

    @property
    def units(self) -> Tensor:
        """(n, 1, R) true where there is a unit and not padding."""
        return self.member.sum(2)[:, None] > 0

    def to_units(self, weights: Tensor) -> Tensor:
        """(n, T, R) from a weight for each adapter (n, T, E)."""
        return weights @ self.member.mT

    def passed(self, weights: Tensor) -> Tensor:
        """(n, T, E) mean of weights (n, T, R) over the units of each adapter."""
        return self.to_adapters(weights) / self.member.sum(1, keepdim=True).clamp(min=1)

    def wrote(self, z: Tensor) -> Tensor:
        """(n, T, E) squared length of what each adapter writes where its units read (n, T, R)."""
        apart = z[:, :, None] * self.member.mT[:, None]  # (n, T, E, R)
        return (apart @ self.B.mT[:, None]).square().sum(3)

    def to_adapters(self, values: Tensor) -> Tensor:
        """(n, T, E) sums over the units (n, T, R) of each adapter."""
        return values @ self.member


Weigh = Callable[..., "Tensor"]
"""(seen, **params) -> (n, T, R) how much of each unit passes; what it gives padding is ignored."""


@dataclass(frozen=True)
class Rule:
    """A registered rule and what the engine has to bring along for it."""

    name: str
    weigh: Weigh
    needs: tuple[Need, ...]

    @property
    def fitted(self) -> bool:
        """Whether a part of it has to be fitted before it can run."""
        return bool({"query", "unit_keys", "adapter_keys"} & set(self.needs))


RULES: Registry[Rule] = Registry("token router")


def fitted_rules() -> list[str]:
    """Names of the rules that have a part to be fitted."""
    return [rule.name for rule in RULES if rule.fitted]


def token_router(name: str, *needs: Need) -> Callable[[Weigh], Weigh]:
    """Registers the decorated function as the rule of that name."""

    def register(weigh: Weigh) -> Weigh:
        RULES.register(name, Rule(name, weigh, needs))
        return weigh

    return register
