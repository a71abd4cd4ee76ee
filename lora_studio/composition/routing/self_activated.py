"""Self-activated ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Routed
from lora_studio.composition.routing.strengths import strengths
from lora_studio.composition.token_router import Seen, router, token_router

if TYPE_CHECKING:
    from torch import Tensor


@method(
    "self_activated",
    title="Self-activated ranks",
    kind="routing",
    paper="https://arxiv.org/abs/2506.21035",
)
def self_activated(
    inputs: Inputs,
    *,
    units: Annotated[
        int, Range(0, 512, 1, "Rank units that act on one token; 0 = the largest source's rank")
    ] = 0,
    temperature: Annotated[
        float, Range(0.0, 10.0, 0.05, "0: those chosen act in full; above, by softmax of scores")
    ] = 0.0,
    least: Annotated[float, Range(0.0, 1.0, 0.01, "Score below which a unit stays silent")] = 0.0,
    among: Annotated[int, Range(1, 64, 1, "Adapters retrieved for a prompt, who may act")] = 16,
) -> Routed:
    """Lets each token choose, in each module, the rank units that answer to it most.

    Score of unit t of all adapters side by side: q_t = |a_t . x| |b_t| / sqrt(sum_u (|a_u . x|
    |b_u|)^2), the share of the update it would write, whatever its sign and however a scale is
    split between a and b. The `units` largest with q_t >= `least` act: in full, or at k softmax(q /
    temperature). MoRA (later MoRAM) gates with the signed a_t . x of ranks it trained for that; in
    adapters of others its sign is arbitrary. Needs no samples and no fitting.
    """
    found = strengths(inputs)
    rank = units or max(adapter.max_rank for adapter in inputs.adapters)
    rule = router("self_activated", units=rank, temperature=temperature, least=least)
    return Routed("self_activated", found, top_k=min(among, len(found)), router=rule)


@token_router("self_activated", "norms")
def weigh(seen: Seen, *, units: float, temperature: float, least: float) -> Tensor:
    """1 (or a share of k) for the units that answer most, 0 for the others."""
    loud = seen.z.abs() * seen.extras["norms"][:, None]  # (n, T, R)
    score = loud / loud.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-30)
    score = score.masked_fill(~seen.units, -1.0)
    count = min(int(units), score.shape[-1])
    edge = score.topk(count, dim=-1).values[..., -1:]
    chosen = (score >= edge) & (score >= least)
    if not temperature:
        return chosen.to(score)
    among = (score / temperature).masked_fill(~chosen, float("-inf"))
    return (among.softmax(-1) * chosen.sum(-1, keepdim=True)).nan_to_num(0.0)
