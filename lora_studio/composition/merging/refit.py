"""One adapter fitted, layer by layer, to what each source does on its own sample inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.composition.merging.fitting import Start, silent, start_of, unfitted
from lora_studio.composition.merging.params import Rank
from lora_studio.composition.merging.reduced_rank import Tensor, Whitening
from lora_studio.composition.method import Help, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.probe import Part, Site, Walked, WalkingProbe

GENERIC = 40
"""Texts of the base model's own that the guard looks at; of pictures the probe takes fewer."""
ADDITIVE = 0.7
"""Share of samples that the plain sum answers as their source from which adapters count as
additive. The groups it was set on had 0, .33 and .46 (plain), .90 and .96 (additive)."""
TOGETHER = {"auto": ADDITIVE, "sum": 0.0, "own": 2.0}


@method(
    "refit",
    title="Refit on samples",
    kind="merging",
    uses_model=True,
    needs_samples=True,
)
def refit(
    inputs: Inputs,
    *,
    rank: Rank = 0,
    ridge: Annotated[
        float, Range(0.0005, 10.0, 0.0005, "Pull towards the sources; more with few samples")
    ] = 0.01,
    teacher: Annotated[
        Literal["auto", "own", "sum"],
        Help("Whom a sample shows: its own source, or the sum where that answers it as well"),
    ] = "auto",
    guard: Annotated[
        float,
        Range(0.0, 1.0, 0.05, "Weight of what the base model makes unasked, to stay as it is"),
    ] = 0.1,
) -> Merged:
    """Fits one adapter to what each source does on its own samples, layer by layer.

    Module by module in the order the model runs them: inputs X are those of the model with all that
    was fitted before, targets Y what leads back from there to the source alone; M = argmin over
    rank r of sum_t |X_t M^T - Y_t|^2 + e |M - mean dW|^2, e = ridge * mean diag sum_t X_t^T X_t, by
    reduced-rank regression. Needs the base model and sample inputs, no labels: the sources' own
    greedy answers stand in; of image models what the denoiser is given while each source draws its
    samples, convolutions as regressions on what lies under their kernel. Where the plain sum
    answers seven in ten samples as their sources do (adapters trained to be additive), `auto` takes
    it for the teacher of these. Its parts are known: regression on activations (RegMean, arXiv
    2212.09849), on those of the merged model (RegMean++, arXiv 2508.03121), truncation in a
    whitened space (SVD-LLM, arXiv 2403.07378). Without base model or samples it is `svd`.
    """
    start = start_of(inputs, rank)
    if not isinstance(inputs.probe, WalkingProbe):
        return unfitted(start, "Refit needs the base model at work")
    fit = _Refit(start, len(inputs.adapters), ridge, guard)
    seen = inputs.probe.walk(
        start.sources,
        start.adapter,
        fit,
        guard=GENERIC if guard else 0,
        together=TOGETHER[teacher],
    )
    if not seen.prompts:
        return unfitted(start, "The sources have no sample inputs to fit to")
    return Merged(start.with_factors(fit.found), tuple(_notes(seen, fit)), fit.shares)


def _notes(seen: Walked, fit: _Refit) -> list[str]:
    notes = [f"Fitted to {seen.prompts} sample prompts of the sources and their own answers."]
    if seen.together and seen.agreed is not None:
        notes.append(
            f"The plain sum answers {seen.agreed:.0%} of them as their sources do, so it was the "
            "teacher there."
        )
    notes += silent(fit.start, fit.heard, "the fit knows only their updates")
    left = len(fit.start.adapter.factors) - len(fit.found)
    if left:
        notes.append(f"SVD of the sum in {left} modules that the model does not run as layers.")
    return notes


class _Refit:
    """A `Fit` that remembers what it found."""

    def __init__(self, start: Start, count: int, ridge: float, guard: float) -> None:
        self.start = start
        self._count, self._ridge, self._guard = count, ridge, guard
        self.found: dict[str, LoraFactors] = {}
        self.shares: dict[str, np.ndarray] = {}
        self.heard: set[int | None] = set()

    def __call__(self, sites: Sequence[Site]) -> dict[str, LoraFactors]:
        import torch

        parts = sites[0].parts
        self.heard |= {part.source for part in parts}
        roots = [self._importance(part).sqrt()[:, None] for part in parts]
        rows = [part.inputs * root for part, root in zip(parts, roots, strict=True)]
        whitening = Whitening(torch.cat(rows), self._ridge)
        found = {}
        for site in sites:
            wanted = [p.wanted * root for p, root in zip(site.parts, roots, strict=True)]
            found[site.name] = self._solve(site, whitening, wanted)
        self.found |= found
        return found

    def _solve(self, site: Site, whitening: Whitening, wanted: list[Tensor]) -> LoraFactors:
        ends = np.cumsum([0, *(len(y) for y in wanted)]).tolist()
        places = [slice(a, b) for a, b in pairwise(ends)]
        owners = [part.source for part in site.parts]
        # A source without samples still has its part of the prior, but no rows.
        silent = [i for i in range(len(self.start.sources)) if i not in owners]
        owners += silent
        places += [slice(0, 0)] * len(silent)
        wanted = [*wanted, *[wanted[0][:0]] * len(silent)]
        priors = [self._prior(site.name, owner, wanted[0]) for owner in owners]
        fitted = whitening.solve(wanted, places, priors, self.start.limits[site.name])
        self.shares[site.name] = self._shares(owners, _array(fitted.shares))
        like = self.start.adapter.factors[site.name]
        return replace(like, A=_array(fitted.A), B=_array(fitted.B))

    def _importance(self, part: Part) -> Tensor:
        return part.weights * (1.0 if part.source is not None else self._guard)

    def _prior(self, name: str, source: int | None, like: Tensor) -> tuple[Tensor, Tensor] | None:
        if source is None or name not in self.start.sources[source][0].factors:
            return None
        adapter, weight = self.start.sources[source]
        module = adapter.factors[name].scaled(weight / len(self.start.sources)).folded()
        return like.new_tensor(module.A), like.new_tensor(module.B)

    def _shares(self, owners: Sequence[int | None], found: np.ndarray) -> np.ndarray:
        """(adapters as given, rank); what the guard holds back is nobody's."""
        shares = np.zeros((self._count, found.shape[1]), np.float32)
        for owner, row in zip(owners, found, strict=True):
            if owner is not None:
                shares[self.start.given[owner]] += row
        return shares


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy())
