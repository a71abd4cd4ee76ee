"""SMoRA's rank-wise gate over adapters that were trained apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.strengths import strengths
from lora_studio.composition.token_router import Seen, router, token_router

if TYPE_CHECKING:
    from torch import Tensor


@method("smora", title="SMoRA gate", kind="routing", paper="https://arxiv.org/abs/2501.15103")
def smora(
    inputs: Inputs,
    *,
    units: Annotated[
        int, Range(0, 512, 1, "Rank units that act on one token; 0 = the largest source's rank")
    ] = 0,
    among: Annotated[int, Range(1, 64, 1, "Adapters retrieved for a prompt, who may act")] = 16,
) -> Routed:
    """Opens, per token and module, the k rank units whose fitted keys the input resembles most.

    u = sigmoid(K x + b) for the units of all adapters side by side; the k largest act, at g_t = k
    u_t / sum of their u. K has one row for each unit; it and the balancing bias b are fitted by
    `lora-studio train-router --rule smora` with adapters and base frozen, for the adapters named
    there. The paper trains gate and ranks together; here only the gate is.
    """
    found = strengths(inputs)
    rank = units or max(adapter.max_rank for adapter in inputs.adapters)
    return Routed("smora", found, top_k=min(among, len(found)), router=router("smora", units=rank))


@token_router("smora", "unit_keys")
def weigh(seen: Seen, *, units: float) -> Tensor:
    """SMoRA's gate: of a key's d_in + 1 values the last is the bias, which chooses and weighs."""
    keys = seen.extras["unit_keys"]  # (n, R, d_in + 1)
    u = (seen.x @ keys[..., :-1].mT).sigmoid() + keys[..., -1][:, None]
    u = u.masked_fill(~seen.units, float("-inf"))
    count = min(int(units), u.shape[-1])
    edge = u.topk(count, dim=-1).values[..., -1:]
    chosen = (u >= edge) & seen.units
    kept = u.masked_fill(~chosen, 0.0).clamp(min=0.0)
    return kept * chosen.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp(min=1e-12)
