"""Arrow routing."""

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
    "arrow", title="Arrow", kind="routing", paper="https://arxiv.org/abs/2405.11157", in_model=True
)
def arrow(
    inputs: Inputs,
    *,
    share: How = "top_k",
    active: Active = 3,
    temperature: Temperature = 1.0,
    unsure: Unsure = 0.9,
    mass: Mass = 0.8,
    among: Among = 16,
) -> Routed:
    """Gives each token, in each module, to the adapters whose strongest input direction it has.

    p = softmax(|v_j . x| / temperature) with v_j the first right singular vector of B_j A_j, over
    the `active` largest; y = W0 x + sum_j p_j w_j s_j B_j A_j x. Needs no samples and no fitting.
    PEFT has it for adapters of one rank and the same modules; here both may differ, and an adapter
    has no say in modules it lacks. `share = entropy` is DynMoLE's rule.
    """
    how = {"share": share, "active": active, "unsure": unsure, "mass": mass}
    return weighed(inputs, "arrow", among, temperature=temperature, **how)


@token_router("arrow", "prototypes")
def weigh(
    seen: Seen, *, temperature: float, share: str, active: float, unsure: float, mass: float
) -> Tensor:
    """Arrow's shares, spread over each adapter's units."""
    keys = seen.extras["prototypes"]  # (n, E, d_in)
    able = seen.present & (keys.square().sum(2)[:, None] > 0)
    able = able | (seen.present & ~able.any(2, keepdim=True))
    scores = (seen.x @ keys.mT).abs() / temperature
    return seen.to_units(shared(scores, able, share, active, unsure, mass))
