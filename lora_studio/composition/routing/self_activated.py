"""Self-activated ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.sharing import Units, best
from lora_studio.composition.routing.strengths import Among, weighed
from lora_studio.composition.token_router import Seen, token_router

if TYPE_CHECKING:
    from torch import Tensor


@method(
    "self_activated",
    title="Self-activated ranks",
    kind="routing",
    paper="https://arxiv.org/abs/2506.21035",
    in_model=True,
)
def self_activated(
    inputs: Inputs,
    *,
    units: Units = 0,
    temperature: Annotated[
        float, Range(0.0, 10.0, 0.05, "0: those chosen act in full; above, by softmax of scores")
    ] = 0.0,
    least: Annotated[float, Range(0.0, 1.0, 0.01, "Score below which a unit stays silent")] = 0.0,
    among: Among = 16,
) -> Routed:
    """Lets each token choose, in each module, the rank units that answer to it most.

    Score of unit t of all adapters side by side: q_t = |a_t . x| |b_t| / sqrt(sum_u (|a_u . x|
    |b_u|)^2), the share of the update it would write, whatever its sign and however a scale is
    split between a and b. The `units` largest with q_t >= `least` act: in full, or at k softmax(q /
    temperature). MoRA (later MoRAM) gates with the signed a_t . x of ranks it trained for that; in
    adapters of others its sign is arbitrary. Needs no samples and no fitting.
    """
    rank = units or max(adapter.max_rank for adapter in inputs.adapters)
    how = {"units": rank, "temperature": temperature, "least": least}
    return weighed(inputs, "self_activated", among, **how)


@token_router("self_activated", "norms")
def weigh(seen: Seen, *, units: float, temperature: float, least: float) -> Tensor:
    """1 (or a share of k) for the units that answer most, 0 for the others."""
    loud = seen.z.abs() * seen.extras["norms"][:, None]  # (n, T, R)
    score = loud / loud.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-30)
    score = score.masked_fill(~seen.units, -1.0)
    chosen = best(score, units) & (score >= least)
    if not temperature:
        return chosen.to(score)
    among = (score / temperature).masked_fill(~chosen, float("-inf"))
    return (among.softmax(-1) * chosen.sum(-1, keepdim=True)).nan_to_num(0.0)
