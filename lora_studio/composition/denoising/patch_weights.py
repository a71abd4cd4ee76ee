"""Composite with weights by patch: who departs most from the base model there counts most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from lora_studio.composition.denoising.actors import actors
from lora_studio.composition.denoising.grid import as_grid, from_grid
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.schedule import Scheduled, StepView, constant


class Patches:
    """Mixes the adapters' predictions patch by patch; branch 0 is the base model.

    Args:
        branches: adapters, without the base.
        patch: side of a patch, in places of the prediction.
        temperature: of the softmax over adapters.
    """

    def __init__(self, branches: int, patch: int, temperature: float) -> None:
        self._branches, self._patch, self._temperature = branches, patch, temperature

    def wanted(self, step: int, steps: int) -> Sequence[int]:
        return range(self._branches + 1)

    def combine(self, predictions: Mapping[int, Any], view: StepView) -> Any:
        import torch

        if "cond" not in view.halves:
            return predictions[0]
        half = view.halves.index("cond")
        base = as_grid(predictions[0], view)  # (halves, channels, height, width)
        own = torch.stack(
            [as_grid(predictions[i + 1], view)[half] for i in range(self._branches)]
        )  # (N, channels, height, width)
        shares = self.shares(own, base[half]).to(own.dtype)  # (N, height, width)
        mixed = base.clone()
        mixed[half] = (shares[:, None] * own).sum(0)
        return from_grid(mixed, predictions[0])

    def shares(self, own: Any, base: Any) -> Any:
        """(N, height, width) that sum to 1 over adapters and are constant within a patch.

        Args:
            own: (N, channels, height, width). base: (channels, height, width).
        """
        own, base = own.float(), base.float()
        dots, sizes = self._pooled((own * base).sum(1)), self._pooled(own.square().sum(1))
        norm = (sizes * self._pooled(base.square().sum(0)[None])).sqrt().clamp_min(1e-12)
        shares = ((1.0 - dots / norm) / self._temperature).softmax(0)
        for side in (-2, -1):
            shares = shares.repeat_interleave(self._patch, side)
        return shares[..., : own.shape[-2], : own.shape[-1]]

    def _pooled(self, values: Any) -> Any:
        """(n, height, width) -> (n, patches down, patches across), their means."""
        from torch.nn.functional import avg_pool2d

        whole = {"ceil_mode": True, "count_include_pad": False}
        return avg_pool2d(values[:, None], self._patch, **whole)[:, 0]


@method(
    "patch_weights",
    title="Patch weights",
    kind="denoising",
    paper="https://arxiv.org/abs/2508.11624",
)
def patch_weights(
    inputs: Inputs,
    *,
    patch: Annotated[int, Range(1, 8, 1, "Side of a patch, in latent pixels")] = 2,
    temperature: Annotated[
        float, Range(0.001, 1.0, 0.001, "Small: the farthest adapter alone; large: the mean")
    ] = 0.01,
) -> Scheduled:
    """Weighs the adapters patch by patch by how far each departs from the base model there.

    d_i(p) = 1 - cos(eps_i(p), eps_base(p)), w_i(p) = softmax_i(d_i(p) / temperature),
    eps(p) = sum_i w_i(p) eps_i(p) for the prompt's half; the half without prompt is the base
    model's. An adapter far from its own subject predicts as the base model does, and so counts
    less. LoRAtorio's rule without its choice of adapters from a pool. As the half without prompt is
    the base model's, guidance strengthens the adapters too. One adapter alone acts as usual. N + 1
    passes per step.
    """
    cast = actors(inputs)
    branches = [constant({actor.id: actor.weight}) for actor in cast]
    if len(cast) == 1:
        return Scheduled(tuple(branches))
    return Scheduled(
        (constant({}), *branches),
        lambda: Patches(len(cast), patch, temperature),
        passes=len(cast) + 1.0,
        notes=("Guidance strengthens the adapters too here: lower it if pictures get harsh.",),
    )
