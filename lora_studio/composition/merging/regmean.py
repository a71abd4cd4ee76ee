"""RegMean on adapters: the update that best gives each source's outputs on its own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.composition.merging.budget import spectrum_of
from lora_studio.composition.merging.fitting import Start, silent, start_of, unfitted
from lora_studio.composition.merging.params import AutoScale, Rank, Scale
from lora_studio.composition.merging.reduced_rank import Tensor
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.probe import Part, Site, WalkingProbe
from lora_studio.composition.scale import apply_scale

LEAST = 1e-6
"""Share of the mean diagonal added to it, so that inputs never seen leave the solution defined."""


@method(
    "regmean",
    title="RegMean",
    kind="merging",
    paper="https://arxiv.org/abs/2212.09849",
    uses_model=True,
    needs_samples=True,
)
def regmean(
    inputs: Inputs,
    *,
    rank: Rank = 0,
    off_diagonal: Annotated[
        float, Range(0.0, 1.0, 0.05, "How much correlations of the inputs count")
    ] = 0.9,
    scale: Scale = 1.0,
    auto_scale: AutoScale = False,
) -> Merged:
    """Weighs each source's update by the inputs it is used on: one regression per module.

    M = (sum_t w_t dW_t G_t) (sum_t G_t)^-1, G_t = X_t^T X_t of the source's own inputs to the
    module with off-diagonal entries times `off_diagonal`; then the SVD of M at the rank asked for,
    through its factors. Unlike `refit` every module is solved on its own, and the truncation knows
    nothing of the inputs. Makes (d_in, d_in) matrices. Without base model or samples it is `svd`.
    """
    start = start_of(inputs, rank)
    if not isinstance(inputs.probe, WalkingProbe):
        return unfitted(start, "RegMean needs the base model at work")
    found: dict[str, LoraFactors] = {}
    heard: set[int | None] = set()

    def fit(sites: Sequence[Site]) -> dict[str, LoraFactors]:
        grams = [_gram(part, off_diagonal) for part in sites[0].parts]
        owners = [part.source for part in sites[0].parts]
        heard.update(owners)
        new = {site.name: _solve(start, site.name, owners, grams) for site in sites}
        found.update(new)
        return new

    seen = inputs.probe.walk(start.sources, start.adapter, fit, sequential=False)
    if not seen.prompts:
        return unfitted(start, "The sources have no sample inputs to weigh by")
    scaled, notes = apply_scale(start.with_factors(found), inputs, scale, auto_scale)
    notes = (*silent(start, heard, "they are left out"), *notes)
    return Merged(scaled, (f"Weighed on {seen.prompts} sample prompts of the sources.", *notes))


def _gram(part: Part, off_diagonal: float) -> Tensor:
    """(d_in, d_in) second moment of a source's inputs, pulled towards its diagonal."""
    rows = part.inputs.double()
    gram = rows.mT @ (rows * part.weights.double()[:, None])
    diagonal = gram.diagonal().clone()
    gram *= off_diagonal
    gram.diagonal().copy_(diagonal * (1 + LEAST) + LEAST * diagonal.mean())
    return gram


def _solve(
    start: Start, name: str, owners: Sequence[int | None], grams: Sequence[Tensor]
) -> LoraFactors:
    """The merged factors of one module: M = [w_t B_t] [A_t G_t (sum G)^-1], nothing dense."""
    import torch

    whole = torch.stack(list(grams)).sum(0)
    left, right = list[np.ndarray](), list[Tensor]()
    for owner, gram in zip(owners, grams, strict=True):
        adapter, weight = start.sources[owner] if owner is not None else (None, 0.0)
        if adapter is not None and name in adapter.factors:
            module = adapter.factors[name].scaled(weight).folded()
            left.append(module.B)
            right.append(gram.new_tensor(module.A) @ gram)
    like = start.adapter.factors[name]
    if not left:
        return like
    rows = torch.linalg.solve(whole, torch.cat(right).mT).mT.cpu().numpy()  # (R, d_in)
    a, b = spectrum_of(rows, np.concatenate(left, 1)).cut(start.limits[name])
    return replace(like, A=a.astype(np.float32), B=b.astype(np.float32))
