"""The mean of adapters on the sphere: SLERP for any number of them."""

from __future__ import annotations

import numpy as np

from lora_studio.composition.merging.budget import Budget
from lora_studio.composition.merging.coefficients import merge_on_sphere
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged
from lora_studio.errors import InvalidRequest

ROUNDS = 200
TOLERANCE = 1e-10


@method(
    "karcher",
    title="Karcher mean",
    kind="merging",
    group="averages",
    paper="https://doi.org/10.1002/cpa.3160300502",
    uses_model=True,
)
def karcher(
    inputs: Inputs,
    *,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Averages the directions of any number of adapters on the sphere, and their strengths apart.

    Per module, the x on the unit sphere with least sum_i t_i angle(x, e_i)^2, e_i the unit updates,
    t_i = |w_i| / sum |w|, by steps along sum_i t_i log_x(e_i); times sum_i t_i |D_i|. Runs on the
    (n, n) cosines alone. Only ratios of weights count; a negative one turns its update around. For
    two it is `slerp`. Where the plain mean gets weak because adapters differ, this does not.

    Raises:
        InvalidRequest: the updates of a module cancel, so that there is no direction to begin at.
    """
    ranks = Budget(rank, budget, keep, usual=sum)
    return merge_on_sphere(inputs, mean_direction, ranks, scale, auto_scale)


def mean_direction(cosines: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(n,) coefficients of the Karcher mean over unit updates with these cosines."""
    x = shares.copy()
    length = np.sqrt(max(x @ cosines @ x, 0.0))
    if length < 1e-6:
        raise InvalidRequest(
            "The updates of a module cancel each other, so they have no mean direction. Change a "
            "weight, or use task_arithmetic."
        )
    x /= length
    for _ in range(ROUNDS):
        near = np.clip(cosines @ x, -1.0, 1.0)  # (n,) cosines of x to each
        theta = np.arccos(near)
        sine = np.sqrt(np.maximum(1 - near**2, 0.0))
        ratio = np.divide(theta, sine, out=np.ones_like(theta), where=sine > 1e-9)
        pull = shares * ratio
        step = pull - (pull @ near) * x  # coefficients of sum_i t_i log_x(e_i)
        size = float(np.sqrt(max(step @ cosines @ step, 0.0)))
        if size < TOLERANCE:
            break
        x = np.cos(size) * x + np.sin(size) / size * step
        x /= np.sqrt(x @ cosines @ x)
    return x
