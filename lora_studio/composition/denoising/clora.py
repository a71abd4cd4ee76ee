"""CLoRA: attention maps of the adapters' words are told apart, and masks are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from lora_studio.composition.denoising.actors import Actor, actors
from lora_studio.composition.denoising.grid import as_grid, from_grid
from lora_studio.composition.denoising.regional_attention import UNETS
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.schedule import Attention, Maps, Scheduled, StepView, constant
from lora_studio.errors import InvalidRequest

TEMPERATURE = 0.5
SPREAD = 1.0
"""Standard deviation in places of the Gaussian that smooths maps before they become masks."""
BASE = 0


@method(
    "clora",
    title="CLoRA",
    kind="denoising",
    paper="https://arxiv.org/abs/2403.19776",
    families=UNETS,
)
def clora(
    inputs: Inputs,
    *,
    strength: Annotated[
        float, Range(0.0, 0.5, 0.01, "Move of the latents at a guided step; 0 = masks alone")
    ] = 0.1,
    until: Annotated[float, Range(0.0, 1.0, 0.05, "Share of the run that is guided")] = 0.3,
    threshold: Annotated[
        float, Range(0.05, 0.95, 0.05, "Share of a map's maximum from which a place is a mask's")
    ] = 0.5,
) -> Scheduled:
    """Gives each adapter the places that attend to its words, and pushes those places apart.

    Branches are the base model and each adapter alone. A_b,c is the cross-attention of branch b to
    the words of adapter c in the prompt. Before each guided step the latents move down the gradient
    of the InfoNCE loss in which A_base,c and A_c,c belong together, and apart from those of other
    adapters, at temperature 0.5. Then M_c = [A_c,c >= threshold * max A_c,c] and eps = sum_c M_c
    eps_c / sum_c M_c, the base model where no mask is. The move has a fixed size (`strength`, root
    mean square) instead of the paper's step on the raw gradient; it begins before the second step.
    The prompt must name a trigger word of each adapter. For subjects side by side: a style has no
    place of its own. One adapter alone acts as usual. On UNets only. N + 1 passes per step, and a
    pass forward and back over N + 1 branches for each guided step.
    """
    cast = actors(inputs)
    if len(cast) == 1:
        return Scheduled((constant({cast[0].id: cast[0].weight}),))
    concepts = _concepts(cast)
    branches = [constant({actor.id: actor.weight}) for actor in cast]
    return Scheduled(
        (constant({}), *branches),
        lambda: AttentionMasks(list(concepts), threshold),
        passes=len(cast) + 1.0,
        attention=Attention(words=concepts),
        guide=Contrast(list(concepts), strength, until) if strength and until else None,
    )


class AttentionMasks:
    """Mixes the adapters' predictions by where their words are attended to; branch 0 is the base.

    Args:
        concepts: one per adapter, in the order of the branches 1, 2, ...
    """

    def __init__(self, concepts: Sequence[str], threshold: float) -> None:
        self._concepts, self._threshold = concepts, threshold

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        return range(len(self._concepts) + 1)

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        import torch

        grids = [as_grid(predictions[i], view) for i in self.wanted(view.step, view.steps)]
        if not view.maps:  # the half without prompt, where it runs on its own
            return from_grid(torch.stack(grids[1:]).mean(0), predictions[BASE])
        masks = torch.stack(
            [self.mask(view.maps[i, c], grids[0]) for i, c in enumerate(self._concepts, 1)]
        )  # (adapters, height, width)
        free = (1.0 - masks.sum(0)).clamp_min(0.0)
        shares = torch.cat([free[None], masks]) / masks.sum(0).clamp_min(1.0)
        mixed = sum(share * grid for share, grid in zip(shares, grids, strict=True))
        return from_grid(mixed, predictions[BASE])

    def mask(self, seen: Any, like: Any) -> Any:
        """(height, width) of 0 and 1 at the size of `like`, from an attention map of any size."""
        from torch.nn.functional import interpolate

        smooth = _smoothed(seen.float())[None, None]
        grown = interpolate(smooth, like.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
        return (grown >= self._threshold * grown.max()).to(like.dtype)


class Contrast:
    """The InfoNCE loss over attention maps; branch 0 is the base model."""

    def __init__(self, concepts: Sequence[str], strength: float, until: float) -> None:
        self._concepts, self._strength, self._until = concepts, strength, until

    def strength(self, step: int, steps: int) -> float:
        return self._strength if step < self._until * steps else 0.0

    def loss(self, maps: Maps) -> Any:
        """mean over anchors of -log(sum_positives e^(cos / t) / sum_others e^(cos / t))."""
        import torch

        owners = [place for place in range(len(self._concepts)) for _ in range(2)]
        found = [
            maps[branch, concept].float().flatten()
            for place, concept in enumerate(self._concepts)
            for branch in (BASE, place + 1)
        ]
        unit = torch.nn.functional.normalize(torch.stack(found), dim=1)  # (2 N, places)
        likeness = (unit @ unit.T / TEMPERATURE).exp()
        same = torch.tensor(owners)[:, None] == torch.tensor(owners)[None]
        other = (~torch.eye(len(owners), dtype=torch.bool)).to(unit.device)
        positive = (likeness * (same.to(unit.device) & other)).sum(1)
        return -(positive / (likeness * other).sum(1)).log().mean()


def _smoothed(values: Any) -> Any:
    """(height, width) under a small Gaussian."""
    import torch
    from torch.nn.functional import conv2d, pad

    line = torch.arange(-1, 2, device=values.device, dtype=values.dtype)
    kernel = (-0.5 * (line / SPREAD) ** 2).exp()
    kernel = (kernel[:, None] * kernel[None]) / kernel.sum() ** 2
    return conv2d(pad(values[None, None], (1, 1, 1, 1), mode="replicate"), kernel[None, None])[0, 0]


def _concepts(cast: Sequence[Actor]) -> dict[str, tuple[str, ...]]:
    """Adapter's name -> its trigger words, in the order of the cast."""
    found: dict[str, tuple[str, ...]] = {}
    for actor in cast:
        words = actor.adapter.card.trigger_words
        if not words:
            raise InvalidRequest(
                f"CLoRA follows trigger words, and {actor.name} has none. Add them to its card, or "
                "choose Regions."
            )
        name = actor.name if actor.name not in found else f"{actor.name} ({len(found) + 1})"
        found[name] = words
    return found
