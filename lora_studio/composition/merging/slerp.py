"""Spherical interpolation between two adapters."""

from __future__ import annotations

import numpy as np

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.coefficients import merge_on_sphere
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged
from lora_studio.errors import InvalidRequest

PARALLEL = 1e-6


@method(
    "slerp",
    title="SLERP of two",
    kind="merging",
    group="averages",
    paper="https://dl.acm.org/doi/10.1145/325165.325242",
    uses_model=True,
)
def slerp(
    inputs: Inputs,
    *,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Goes from one adapter to a second along the arc between them, so that no strength is lost.

    Per module, with shares t_i = |w_i| / sum |w| and angle theta between the updates:
    sin(t_1 theta) / sin(theta) e_1 + sin(t_2 theta) / sin(theta) e_2 of the unit updates e_i, times
    t_1 |D_1| + t_2 |D_2|. Only the ratio of the weights counts; a negative one turns its update
    around. mergekit's `slerp`, of updates instead of whole weights, and without a dense one.
    `karcher` takes more than two.

    Raises:
        InvalidRequest: more than two adapters, or two updates of a module that are opposite.
    """
    active = sum(map(bool, inputs.weights))
    if active > 2:
        raise InvalidRequest(
            f"SLERP goes between two adapters, and {active} take part. Switch the others off, or "
            "use karcher, which takes any number."
        )
    ranks = Budget(rank, budget, keep, usual=sum)
    return merge_on_sphere(inputs, along_arc, ranks, scale, auto_scale)


def along_arc(cosines: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(n,) coefficients of one or two unit updates."""
    if len(shares) == 1:
        return np.ones(1)
    theta = float(np.arccos(cosines[0, 1]))
    if theta > np.pi - PARALLEL:
        raise InvalidRequest(
            "Two updates are exact opposites: no arc between them is the shortest. Give both "
            "weights one sign, or use task_arithmetic."
        )
    if theta < PARALLEL:
        return shares
    return np.sin(shares * theta) / np.sin(theta)
