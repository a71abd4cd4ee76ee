"""Net Utility: the directions that give their own adapter more than they cost the others."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lora_studio.composition.merging.budget import highest, ranks_note, spectrum_of
from lora_studio.composition.merging.modules import Stack, merge_modules, modules_of, stacks_of
from lora_studio.composition.merging.params import AutoScale, Scale
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale


@method(
    "net_utility",
    title="Net utility",
    kind="merging",
    group="directions",
    paper="https://arxiv.org/abs/2609.22237",
    uses_model=True,
)
def net_utility(
    inputs: Inputs,
    *,
    rank: Annotated[
        int, Range(0, 512, 1, "Mean rank over modules; 0 = largest source rank of each")
    ] = 0,
    interference: Annotated[
        float, Range(0.0, 4.0, 0.1, "How much harm to other adapters counts against a direction")
    ] = 1.0,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Keeps, over all modules and adapters, the directions that help most and disturb least.

    A direction s u v^T of w_t D_t (by SVD) has utility s^2, what its own adapter loses without it,
    and interference sum over the others of s^2 |V_o^T v|^2 - 2 s u^T w_o D_o v, what it changes on
    the inputs they act on, less what they want there themselves. The rank times the number of
    modules highest values of utility - `interference` * interference are kept, at least one in each
    module, and added: a rank for each module. The paper's idea in formulas of our own: we have
    seen no code of it. At interference 0 it differs from `svd` under a shared budget in that it
    keeps directions of the adapters, not of their sum.
    """
    stacks = stacks_of(inputs)
    values = modules_of(inputs, stacks, lambda stack: directions(stack, interference)[0])
    total = sum(rank or max(stack.ranks) for stack in stacks.values())
    chosen = highest(values, total)
    note = ranks_note([len(kept) for kept in chosen.values()])

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        _, a, b = directions(stack, interference)
        return a[chosen[stack.name]], b[:, chosen[stack.name]]

    adapter, said = apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale)
    return Merged(adapter, (note, *said))


def directions(stack: Stack, interference: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Net utility (R,) of all singular directions of all adapters, and A (R, d_in), B (d_out, R)
    that hold them: their sum is the weighted sum of the updates."""
    weighted = (m.scaled(w).folded() for m, w in zip(stack.modules, stack.weights, strict=True))
    found = [spectrum_of(m.A, m.B) for m in weighted]
    a = np.concatenate([f.vt for f in found])  # (R, d_in)
    b = np.concatenate([f.u * f.s for f in found], axis=1)  # (d_out, R)
    squares = np.concatenate([f.s**2 for f in found])
    owner = np.repeat(np.arange(len(found)), [len(f.s) for f in found])
    agree = (b.T @ b) * (a @ a.T)  # (R, R) inner products of the directions
    seen = (a @ a.T) ** 2
    harm = np.zeros(len(a))
    for other in range(len(found)):
        theirs = owner == other
        cost = squares * np.minimum(seen[:, theirs].sum(1), 1.0) - 2 * agree[:, theirs].sum(1)
        harm += np.where(theirs, 0.0, cost)
    return squares - interference * harm, a, b
