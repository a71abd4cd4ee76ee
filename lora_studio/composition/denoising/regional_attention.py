"""Adapters that act in regions, by mixing inside the denoiser's attention."""

from __future__ import annotations

from typing import Annotated

from lora_studio.composition.denoising.actors import actors
from lora_studio.composition.denoising.regional import Ground, Regions, everywhere
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.schedule import Attention, Scheduled

UNETS = ("sd1", "sd2", "sdxl")


@method(
    "regional_attention",
    title="Regions in attention",
    kind="denoising",
    paper="https://arxiv.org/abs/2403.11627",
    families=UNETS,
    uses_regions=True,
)
def regional_attention(
    inputs: Inputs,
    *,
    isolate: Annotated[
        bool, Help("Places of one region do not see those of another in self-attention")
    ] = True,
    feather: Annotated[float, Range(0.0, 0.2, 0.01, "Softness of borders, in widths")] = 0.03,
) -> Scheduled:
    """Lets each adapter act in its own region, by mixing them inside the denoiser's attention.

    In every cross-attention layer o(x) = sum_i M_i(x) o_i(x) / sum_i M_i(x), where o_i is computed
    with adapter i's weights and the words of its region (region-aware injection of LoRA-Composer);
    each adapter goes on with that mixture. With `isolate`, places of one region alone do not see
    places of another alone in self-attention (concept isolation). The predictions are mixed in the
    end as `regional` does, since adapters reach beyond attention. The paper's losses at run time
    and its new start of the latents are left out. One adapter alone without a region acts as usual.
    On UNets only. N passes per step, N + 1 with holes.
    """
    cast = actors(inputs)
    ground = Ground.of(cast, feather)
    branches = ground.branches(cast)
    alone = len(branches) == 1
    apart = ground.inside if isolate else None
    return Scheduled(
        branches,
        lambda: Regions(ground),
        passes=float(len(branches)),
        notes=everywhere(cast),
        attention=None if alone else Attention(shares=ground.shares, apart=apart),
    )
