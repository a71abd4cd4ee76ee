"""MeteoRA's gates for a fixed set of adapters."""

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
    "meteora",
    title="MeteoRA gate",
    kind="routing",
    paper="https://arxiv.org/abs/2405.13053",
    in_model=True,
)
def meteora(
    inputs: Inputs,
    *,
    share: How = "top_k",
    active: Active = 2,
    temperature: Temperature = 1.0,
    unsure: Unsure = 0.9,
    mass: Mass = 0.8,
    among: Among = 16,
) -> Routed:
    """Weighs adapters per token and module by a linear gate that was fitted for them.

    p = softmax(G x / temperature) over the `active` largest of one row of G for each adapter; y =
    W0 x + sum_j p_j w_j s_j B_j A_j x. G is fitted by `lora-studio train-router --rule meteora`
    with adapters and base frozen, as LoRA-Mixer's plug-in mode does (arXiv 2507.00029; its
    balancing loss is an option there). An adapter that was not there needs fitting anew: compare
    `router_lora`.
    """
    how = {"share": share, "active": active, "unsure": unsure, "mass": mass}
    return weighed(inputs, "meteora", among, temperature=temperature, **how)


@token_router("meteora", "adapter_keys")
def weigh(
    seen: Seen, *, temperature: float, share: str, active: float, unsure: float, mass: float
) -> Tensor:
    """The gate's shares, spread over each adapter's units."""
    scores = seen.x @ seen.extras["adapter_keys"].mT / temperature
    return seen.to_units(shared(scores, seen.present, share, active, unsure, mass))
