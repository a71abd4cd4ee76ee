"""SMoRA's rank-wise gate over adapters that were trained apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.sharing import Units, best
from lora_studio.composition.routing.strengths import Among, weighed
from lora_studio.composition.token_router import Seen, token_router

if TYPE_CHECKING:
    from torch import Tensor


@method(
    "smora",
    title="SMoRA gate",
    kind="routing",
    paper="https://arxiv.org/abs/2501.15103",
    in_model=True,
)
def smora(
    inputs: Inputs,
    *,
    units: Units = 0,
    among: Among = 16,
) -> Routed:
    """Opens, per token and module, the k rank units whose fitted keys the input resembles most.

    u = sigmoid(K x + b) for the units of all adapters side by side; the k largest act, at g_t = k
    u_t / sum of their u. K has one row for each unit; it and the balancing bias b are fitted by
    `lora-studio train-router --rule smora` with adapters and base frozen, for the adapters named
    there. The paper trains gate and ranks together; here only the gate is.
    """
    rank = units or max(adapter.max_rank for adapter in inputs.adapters)
    return weighed(inputs, "smora", among, units=rank)


@token_router("smora", "unit_keys")
def weigh(seen: Seen, *, units: float) -> Tensor:
    """SMoRA's gate: of a key's d_in + 1 values the last is the bias, which chooses and weighs."""
    keys = seen.extras["unit_keys"]  # (n, R, d_in + 1)
    u = (seen.x @ keys[..., :-1].mT).sigmoid() + keys[..., -1][:, None]
    u = u.masked_fill(~seen.units, float("-inf"))
    chosen = best(u, units) & seen.units
    kept = u.masked_fill(~chosen, 0.0).clamp(min=0.0)
    return kept * chosen.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp(min=1e-12)
