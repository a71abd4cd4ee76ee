"""Adapters that act in regions of the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from lora_studio.composition.denoising.actors import Actor, actors
from lora_studio.composition.denoising.grid import as_grid, from_grid
from lora_studio.composition.denoising.masks import Mask, feathered, mask_of
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.schedule import Branch, Scheduled, StepView, constant
from lora_studio.errors import InvalidRequest

PROBED = 128
"""Side of the grid on which holes between the regions are looked for."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Which place of a picture belongs to which adapter.

    Args:
        masks: one per adapter.
        feather: standard deviation of the Gaussian that softens the masks, in widths.
        holes: whether masks leave places open, which belong to the base model.
    """

    masks: Sequence[Mask]
    feather: float
    holes: bool

    @classmethod
    def of(cls, cast: Sequence[Actor], feather: float) -> Ground:
        """The masks of the actors' regions; raises InvalidRequest where one is black all over."""
        masks = [_mask(actor) for actor in cast]
        covered = np.sum([m.at(PROBED, PROBED) for m in masks], axis=0)
        return cls(masks, feather, bool(covered.min() < 1.0 - 1e-3))

    def branches(self, cast: Sequence[Actor]) -> tuple[Branch, ...]:
        """One per adapter, and one of the base model behind them for what masks leave open."""
        found = [constant({actor.id: actor.weight}, actor.prompt) for actor in cast]
        return tuple([*found, constant({})] if self.holes else found)

    def shares(self, height: int, width: int) -> np.ndarray:
        """(branches, height, width) float32 of at least 0, whose sum over branches is 1."""
        parts = [feathered(m.at(height, width), self.feather) for m in self.masks]
        if self.holes:
            parts.append(np.clip(1.0 - np.sum(parts, axis=0), 0.0, 1.0))
        stacked = np.stack(parts)
        return (stacked / stacked.sum(0)).astype(np.float32)

    def inside(self, height: int, width: int) -> np.ndarray:
        """(adapters, height, width) float32 in 0..1, with hard borders."""
        return np.stack([m.at(height, width) for m in self.masks]).astype(np.float32)


class Regions:
    """A weighted mean of predictions at each place; the last branch fills what masks leave open."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._shares: np.ndarray | None = None

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        return range(len(self._ground.masks) + self._ground.holes)

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        import torch

        grids = [as_grid(predictions[i], view) for i in self.wanted(view.step, view.steps)]
        if self._shares is None or self._shares.shape[1:] != grids[0].shape[-2:]:
            self._shares = self._ground.shares(*grids[0].shape[-2:])
        given = torch.from_numpy(self._shares).to(grids[0])  # (branches, height, width)
        mixed = sum(share * grid for share, grid in zip(given, grids, strict=True))
        return from_grid(mixed, predictions[0])


@method("regional", title="Regions", kind="denoising", uses_regions=True)
def regional(
    inputs: Inputs,
    *,
    feather: Annotated[float, Range(0.0, 0.2, 0.01, "Softness of borders, in widths")] = 0.03,
) -> Scheduled:
    """Lets each adapter act in its own region of the picture, by mixing their predictions.

    eps(x) = sum_i M_i(x) eps_i(x) / sum_i M_i(x), with masks M_i at the size of the prediction,
    softened by a Gaussian of standard deviation `feather`; the base model has the mask
    1 - sum_i M_i, where that is above 0. A source without region acts everywhere; where regions
    overlap, the mean of both acts, and without any region it is `composite`. A region may have
    words of its own, which its adapter is asked for instead of the prompt. Only predictions are
    mixed; `regional_attention` mixes inside the denoiser. N passes per step, N + 1 with holes.
    """
    cast = actors(inputs)
    ground = Ground.of(cast, feather)
    return Scheduled(
        ground.branches(cast),
        lambda: Regions(ground),
        passes=float(len(cast) + ground.holes),
        notes=everywhere(cast),
    )


def everywhere(cast: Sequence[Actor]) -> tuple[str, ...]:
    """A note where no source has a region."""
    if any(actor.region.keys() - {"prompt"} for actor in cast):
        return ()
    return ("No source has a region, so all act everywhere, as in Composite.",)


def _mask(actor: Actor) -> Mask:
    mask = mask_of({k: v for k, v in actor.region.items() if k != "prompt"})
    if not mask.at(PROBED, PROBED).any():
        raise InvalidRequest(
            f"The mask of {actor.name} is black all over. Paint white where it should act, or "
            "switch it off."
        )
    return mask
