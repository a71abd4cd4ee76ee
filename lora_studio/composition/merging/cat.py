"""Concatenation: the exact weighted sum, at the price of rank."""

from __future__ import annotations

from lora_studio.composition.merging.modules import merge_modules
from lora_studio.composition.merging.params import AutoScale, Scale
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale


@method("cat", title="Concatenate", kind="merging", paper="", uses_model=True)
def cat(
    inputs: Inputs,
    *,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Stacks all ranks side by side, which is exactly the weighted sum of the updates.

    Delta = sum_i w_i s_i B_i A_i, rank = sum_i r_i. PEFT's `cat`; FLoRA's stacking. `svd` is the
    same sum cut to a smaller rank; the routed `mixture` is the same sum at weights 1/n.
    """
    merged = merge_modules(inputs, lambda stack: stack.concatenated())
    return Merged(*apply_scale(merged, inputs, scale, auto_scale))
