"""What PEFT does: merging the A factors and the B factors of adapters separately."""

from __future__ import annotations

import numpy as np

from lora_studio.composition.merging.combine import Combine, add
from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.merging.sparsify import Thin, draws
from lora_studio.composition.method import Inputs
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale


def whole(factor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leaves a factor as it is."""
    return factor


def merge_factors(
    inputs: Inputs, scale: float, auto_scale: bool, thin: Thin = whole, combine: Combine = add
) -> Merged:
    """A = combine(thin(A_i), sgn(w_i s_i) sqrt|w_i s_i|), B = combine(thin(B_i), sqrt|w_i s_i|).

    A_i and B_i are as they stand in the adapter, before their scaling s_i, as PEFT takes them.
    Smaller ranks are padded with zeros, which PEFT refuses to do. One adapter alone is added to
    nothing and stays as it is, and so does a DoRA module, which no other adapter may have.

    Args:
        thin: drops entries of one factor; the generator is one per adapter and module, and is used
            for A before B.
        combine: factors and their weights -> one factor.
    """
    alone = sum(map(bool, inputs.weights)) == 1

    def merge(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        rank = max(stack.ranks)
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        strengths = [m.scaling * w for m, w in zip(stack.modules, stack.weights, strict=True)]
        for position, module in enumerate(stack.modules):
            rng = draws(inputs.seed, stack, position)
            stays = alone or module.magnitude is not None
            a, b = (f if stays else thin(f.copy(), rng) for f in (module.A, module.B))
            sides[0].append(np.pad(a, ((0, rank - module.rank), (0, 0))))
            sides[1].append(np.pad(b, ((0, 0), (0, rank - module.rank))))
        roots = [float(np.sqrt(abs(s))) for s in strengths]
        signed = [root if s >= 0 else -root for root, s in zip(roots, strengths, strict=True)]
        join = add if alone else combine
        return join(sides[0], signed), join(sides[1], roots)

    return Merged(*apply_scale(merge_modules(inputs, merge), inputs, scale, auto_scale))
