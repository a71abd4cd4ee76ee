"""How scores of adapters become shares: all by softmax, the best few, or as few as are sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from lora_studio.composition.method import Help, Range

if TYPE_CHECKING:
    from torch import Tensor

How = Annotated[
    Literal["all", "top_k", "entropy"],
    Help("Who acts on a token: all, the best few, or as many as the router is unsure between"),
]
Active = Annotated[int, Range(1, 16, 1, "Adapters that act on one token", ("share", "top_k"))]
Temperature = Annotated[
    float, Range(0.01, 10.0, 0.01, "Low sharpens the shares, high evens them out")
]
Unsure = Annotated[
    float,
    Range(0.0, 1.0, 0.05, "Entropy above which everyone acts; 1 is even", ("share", "entropy")),
]
Mass = Annotated[
    float,
    Range(0.1, 1.0, 0.05, "Share that those who act must reach below it", ("share", "entropy")),
]
Units = Annotated[
    int, Range(0, 512, 1, "Rank units that act on one token; 0 = the largest source's rank")
]


def best(scores: Tensor, count: float) -> Tensor:
    """True for the `count` largest along the last axis, and for what equals the least of them."""
    few = min(int(count), scores.shape[-1])
    return scores >= scores.topk(few, dim=-1).values[..., -1:]


def shared(
    scores: Tensor, present: Tensor, share: str, active: float, unsure: float, mass: float
) -> Tensor:
    """Shares (n, T, E) that add up to 1, from scores (n, T, E) of the adapters that are present.

    all: softmax. top_k: softmax over the `active` best. entropy (DynMoLE, arXiv 2504.00661): p =
    softmax and its Tsallis entropy of index 2, S = 1 - sum p^2, over its largest value 1 - 1/E;
    above `unsure` everyone acts with p, else the smallest set that holds `mass` of it does.

    Args:
        present: (n, 1, E) or (n, T, E), true where there is an adapter; at least one in each row.
    """
    scores = scores.masked_fill(~present, float("-inf"))
    if share == "top_k":
        return scores.masked_fill(~best(scores, active), float("-inf")).softmax(-1)
    p = scores.softmax(-1)
    if share == "all":
        return p
    several = present.sum(-1, keepdim=True).clamp(min=2)
    entropy = (1 - p.square().sum(-1, keepdim=True)) / (1 - 1 / several)  # (n, T, 1)
    ordered, order = p.sort(dim=-1, descending=True)
    kept = ordered.cumsum(-1) - ordered < mass
    few = p * kept.to(p).gather(-1, order.argsort(-1))
    return p.where(entropy > unsure, few / few.sum(-1, keepdim=True))
