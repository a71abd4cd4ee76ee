"""RAMoLE's RouterLoRA: on-the-fly mixture of LoRA experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.sharing import Active, How, Mass, Temperature, Unsure, shared
from lora_studio.composition.routing.strengths import Among, weighed
from lora_studio.composition.token_router import Seen, token_router

if TYPE_CHECKING:
    from torch import Tensor


@method(
    "router_lora",
    title="RouterLoRA",
    kind="routing",
    paper="https://arxiv.org/abs/2406.16989",
    in_model=True,
)
def router_lora(
    inputs: Inputs,
    *,
    share: How = "all",
    active: Active = 2,
    temperature: Temperature = 1.0,
    unsure: Unsure = 0.9,
    mass: Mass = 0.8,
    among: Among = 3,
) -> Routed:
    """Weighs the retrieved adapters per token by attention between their outputs and a router's.

    o_j = s_j B_j A_j x are keys and values, q = B_rho A_rho x is the query; p = softmax_j(q . o_j /
    (sqrt(rank of rho) temperature)) over the row's own adapters, y = W0 x + sum_j p_j w_j o_j. The
    router is one LoRA for all adapters, fitted by `lora-studio train-router` on some of them and
    used for any. It begins with B_rho = 0: all shares even, which is `mixture`. The authors' code
    leaves the mask over a row's own adapters out; here it is kept.
    """
    how = {"share": share, "active": active, "unsure": unsure, "mass": mass}
    return weighed(inputs, "router_lora", among, temperature=temperature, **how)


@token_router("router_lora", "query")
def weigh(
    seen: Seen, *, temperature: float, share: str, active: float, unsure: float, mass: float
) -> Tensor:
    """Attention of the query over what adapters would add; even where a module has no query."""
    if seen.query is None:
        scores = seen.to_adapters(seen.z * 0)
    else:
        a, b = seen.query
        asked = (seen.x @ a.mT) @ b.mT  # (n, T, d_out)
        scores = seen.to_adapters(seen.z * (asked @ seen.B)) / a.shape[0] ** 0.5
    shares = shared(scores / temperature, seen.present, share, active, unsure, mass)
    return seen.to_units(shares)
