"""B-LoRA: content from one attention block of SDXL, style from the next."""

from __future__ import annotations

from collections.abc import Sequence

from lora_studio.composition.denoising.actors import Actor, actors
from lora_studio.composition.method import Inputs, method
from lora_studio.composition.schedule import Branch, Scheduled, constant
from lora_studio.errors import InvalidRequest

CONTENT = "unet.up_blocks.0.attentions.0"
STYLE = "unet.up_blocks.0.attentions.1"


@method(
    "block_lora",
    title="B-LoRA blocks",
    kind="denoising",
    paper="https://arxiv.org/abs/2403.14572",
    families=("sdxl",),
)
def block_lora(inputs: Inputs) -> Scheduled:
    """Takes the content block of the first adapter and the style block of the others.

    Delta_m = w_1 Delta_1,m in `unet.up_blocks.0.attentions.0`, sum_(i > 1) w_i Delta_i,m in
    `unet.up_blocks.0.attentions.1`, nothing elsewhere, text encoders included. For SDXL, where the
    paper found the two blocks; adapters trained as B-LoRAs have only these. With other adapters it
    is a rule of thumb that loses what they keep elsewhere. One adapter alone acts whole. As fast as
    a plain run; weights by module do the same in any method.
    """
    cast = actors(inputs)
    if len(cast) == 1:
        return Scheduled((constant({cast[0].id: cast[0].weight}),))
    blocks = [CONTENT, *[STYLE] * (len(cast) - 1)]
    strengths: dict[str, dict[str, float]] = {}
    for actor, block in zip(cast, blocks, strict=True):
        mine = strengths.setdefault(actor.id, {})
        mine |= {name: mine.get(name, 0.0) + actor.weight for name in _inside(actor, block)}
    branch = Branch(lambda step, steps: strengths, lambda step, steps: {})
    return Scheduled((branch,), notes=_notes(cast, blocks))


def _inside(actor: Actor, block: str) -> list[str]:
    names = [name for name in actor.adapter.factors if name.startswith(f"{block}.")]
    if not names:
        role = "content" if block == CONTENT else "style"
        raise InvalidRequest(
            f"{actor.name} adapts nothing in the {role} block '{block}' of SDXL. Choose an adapter "
            "that does, or another method."
        )
    return names


def _notes(cast: Sequence[Actor], blocks: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"Of {actor.name}, {len(_inside(actor, block))} of {len(actor.adapter.factors)} modules "
        f"act: those of its {'content' if block == CONTENT else 'style'} block."
        for actor, block in zip(cast, blocks, strict=True)
        if len(_inside(actor, block)) < len(actor.adapter.factors)
    )
