"""Task arithmetic: the sum or the mean of updates, exact unless a smaller rank is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from lora_studio.composition.merging.budget import Budget, merge_within, summed
from lora_studio.composition.merging.params import AutoScale, HowRanks, Keep, Scale, SumRank
from lora_studio.composition.method import Help, Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "task_arithmetic",
    title="Task arithmetic",
    kind="merging",
    group="updates",
    paper="https://arxiv.org/abs/2212.04089",
    uses_model=True,
)
def task_arithmetic(
    inputs: Inputs,
    *,
    mean: Annotated[bool, Help("Divide by the sum of the weights' sizes: an average")] = False,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Adds the updates of all adapters; a negative weight takes one away.

    Delta = scale * sum_i w_i s_i B_i A_i, under `mean` divided by sum_i |w_i|; `scale` is the
    paper's lambda. Exact at rank 0, like `cat`, but with the directions that coincide put together;
    at the largest source rank it is `svd`.
    """
    if mean:
        total = sum(abs(float(w)) for w in inputs.weights) or 1.0
        inputs = replace(inputs, weights=[float(w) / total for w in inputs.weights])
    return merge_within(inputs, summed, Budget(rank, budget, keep, usual=sum), scale, auto_scale)
