"""Averaging A and B separately: PEFT's quickest merge, kept as the labelled baseline it is."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale


@method("linear", title="Linear (PEFT)", kind="merging", uses_model=True)
def linear(
    inputs: Inputs,
    *,
    scale: Annotated[float, Range(0.0, 4.0, 0.05, "Strength of the whole result")] = 1.0,
    auto_scale: Annotated[bool, Help("Choose the strength on sample prompts")] = False,
) -> Merged:
    """Adds the A factors and the B factors separately; fast, but mixes unrelated ranks.

    A = sum_i sgn(w_i) sqrt(|w_i| s_i) A_i, B = sum_i sqrt(|w_i| s_i) B_i, so that cross terms
    B_i A_j enter. PEFT's `linear` number for number; where PEFT refuses unequal ranks, the smaller
    ones are padded with zeros. `cat` is the sum without cross terms. With adapters that share the
    seed of their initial A the cross terms agree: at weights 1 the result is about n times too
    strong, averaged it is fine.
    """
    return Merged(*apply_scale(merge_modules(inputs, _add), inputs, scale, auto_scale))


def _add(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    rank, first = max(stack.ranks), stack.modules[0]
    a = np.zeros((rank, first.d_in), dtype=np.float32)
    b = np.zeros((first.d_out, rank), dtype=np.float32)
    for module, weight in zip(stack.modules, stack.weights, strict=True):
        folded = module.scaled(abs(weight)).folded()
        a[: module.rank] += np.float32(np.sign(weight)) * folded.A
        b[:, : module.rank] += folded.B
    return a, b
