"""Pico: output directions that many adapters crowd into are turned down before a merge."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from lora_studio.composition.merging.budget import (
    Budget,
    Spectrum,
    merge_within,
    of_several,
    summed,
)
from lora_studio.composition.merging.core_space import core_of
from lora_studio.composition.merging.modules import Stack
from lora_studio.composition.merging.params import (
    AutoScale,
    HowRanks,
    Keep,
    Scale,
    SumRank,
    TiesDensity,
)
from lora_studio.composition.merging.rules import ties, tsv
from lora_studio.composition.method import Help, Inputs, method
from lora_studio.composition.plan import Merged


@method(
    "pico",
    title="Pico",
    kind="merging",
    group="directions",
    paper="https://arxiv.org/abs/2604.16826",
    uses_model=True,
)
def pico(
    inputs: Inputs,
    *,
    rule: Annotated[
        Literal["sum", "ties", "tsv"], Help("The merge that follows; ties is in Core Space")
    ] = "sum",
    density: TiesDensity = 0.5,
    rank: SumRank = 0,
    budget: HowRanks = "fixed",
    keep: Keep = 0.95,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Turns down output directions that many adapters use, merges, and restores the strength.

    [B_1 ... B_T] = U diag(s) V^T, c_k = s_k^2 / sum s^2, alpha_k = 1 / (1 + (T - 1) c_k);
    B_t + U diag(alpha - 1) U^T B_t in place of B_t, A as it is; then the merge of `rule` (`density`
    is for ties), times mean_t |w_t D_t| over its norm, module by module. In the plain sum, `cat`,
    what all adapters share drowns what each does alone; here it counts about once.
    """

    def merge(stack: Stack, most: int | None) -> Spectrum:
        calm = calibrated(stack)
        if rule == "sum":
            found = summed(calm)
        else:
            core = core_of(calm)
            found = (
                core.spectrum(ties(core.cores, density))
                if rule == "ties"
                else tsv(core, stack.ranks)
            )
        pairs = zip(stack.modules, stack.weights, strict=True)
        wanted = float(np.mean([abs(w) * m.norm() for m, w in pairs]))
        norm = np.sqrt(found.energy)
        factor = wanted / norm if norm else 0.0
        return replace(found, s=found.s * factor, energy=found.energy * factor**2)

    return merge_within(
        inputs, of_several(merge), Budget(rank, budget, keep, usual=sum), scale, auto_scale
    )


def calibrated(stack: Stack) -> Stack:
    """The stack with the crowded output directions of each B turned down."""
    folded = [m.folded() for m in stack.modules]
    q, r = np.linalg.qr(np.concatenate([m.B for m in folded], axis=1).astype(np.float64))
    x, s, _ = np.linalg.svd(r)
    energy = float((s**2).sum()) or 1.0
    alpha = 1 / (1 + (len(folded) - 1) * s**2 / energy)
    u = q @ x[:, : len(s)]
    turned = [m.B + (u * (alpha - 1)) @ (u.T @ m.B) for m in folded]
    modules = (replace(m, B=b.astype(np.float32)) for m, b in zip(folded, turned, strict=True))
    return replace(stack, modules=tuple(modules))
