"""LoraHub: nothing but one weight per adapter, found by trying on a few examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.composition.merging.modules import taking_part
from lora_studio.composition.merging.params import Rank
from lora_studio.composition.method import METHODS, Help, Inputs, Range, method, no_progress
from lora_studio.composition.plan import Merged

BOUND = 1.5
PENALTY = 0.05
"""Bound of each weight and price of their mean size, both the paper's."""
LEAST = 1e-3
"""Weights nearer to 0 than this count as this, so that no source loses its modules."""


@method(
    "lorahub",
    title="LoraHub",
    kind="merging",
    paper="https://arxiv.org/abs/2307.13269",
    uses_model=True,
    needs_samples=True,
)
def lorahub(
    inputs: Inputs,
    *,
    rank: Rank = 0,
    tries: Annotated[int, Range(1, 400, 1, "Weightings to try on sample prompts")] = 60,
    space: Annotated[
        Literal["factors", "updates"],
        Help("factors: A and B are added apart (the paper); updates: their products, then SVD"),
    ] = "factors",
) -> Merged:
    """Searches one weight per adapter, without gradients, by the likelihood of sample answers.

    Minimises -mean log-likelihood + 0.05 mean |w_i| over w in [-1.5, 1.5]^n by Nelder and Mead's
    simplex (the paper uses a mixture of searchers); `factors` is the paper's (sum w_i B_i)
    (sum w_i A_i), but for a negative weight, which turns the source's update around. The paper
    tries weights on labelled examples of a new task; here the sources' own answers to their samples
    stand in. Without base model or samples every weight is 1/n.
    """
    inputs = _active(inputs)
    start = np.full(len(inputs.adapters), 1.0 / len(inputs.adapters))
    best, prompts = start, 0
    if inputs.probe is not None:
        best, prompts = _search(inputs, start, tries, rank, space)
    if not prompts:
        missing = "sample inputs" if inputs.probe else "the base model at work"
        note = f"LoraHub needs {missing} to try weights on: every weight is 1/{len(start)}."
        return Merged(_combined(inputs, start, rank, space), (note,))
    weights = ", ".join(f"{w:.2f}" for w in best)
    note = f"Weights {weights} were found in {tries} tries on {prompts} sample prompts."
    return Merged(_combined(inputs, best, rank, space), (note,))


def _search(
    inputs: Inputs, start: np.ndarray, tries: int, rank: int, space: str
) -> tuple[np.ndarray, int]:
    """The best weights seen, and how many sample prompts judged them."""
    from scipy.optimize import minimize

    assert inputs.probe is not None
    probe, seen = inputs.probe, list[tuple[float, np.ndarray, int]]()

    def loss(weights: np.ndarray) -> float:
        inputs.progress(min(len(seen) / tries, 1.0), f"weighting {len(seen) + 1} of {tries}")
        (found,) = probe.agreement([(_combined(inputs, weights, rank, space), 1.0)])
        value = -found.logprob + PENALTY * float(np.abs(weights).mean())
        seen.append((value, weights.copy(), found.prompts))
        return value

    loss(start)
    if seen[0][2] and tries > 1:
        simplex = np.vstack([start, start + 0.5 * np.eye(len(start))])
        limits = {"maxfev": tries - 1, "initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-4}
        bounds = [(-BOUND, BOUND)] * len(start)
        minimize(loss, start, method="Nelder-Mead", bounds=bounds, options=limits)
    _, weights, prompts = min(seen, key=lambda item: item[0])
    return weights, prompts


def _active(inputs: Inputs) -> Inputs:
    """Only the sources that take part."""
    places = taking_part(inputs)
    if not places:
        return inputs
    return replace(
        inputs,
        adapters=[inputs.adapters[i] for i in places],
        weights=[inputs.weights[i] for i in places],
        ids=[inputs.ids[i] for i in places] if inputs.ids else (),
    )


def _combined(inputs: Inputs, found: np.ndarray, rank: int, space: str) -> Adapter:
    """The sources under the weights found, times those they were given."""
    w = np.where(np.abs(found) < LEAST, LEAST, found)
    power = w * np.abs(w) if space == "factors" else w  # `linear` puts the root in each factor
    weights = [float(given * p) for given, p in zip(inputs.weights, power, strict=True)]
    quiet = replace(inputs, weights=weights, progress=no_progress)
    if space == "factors":
        whole = METHODS.get("linear")(quiet)
        assert isinstance(whole, Merged)
        if not rank or rank >= whole.adapter.max_rank:
            return whole.adapter
        quiet = replace(quiet, adapters=[whole.adapter], weights=[1.0], ids=())
    cut = METHODS.get("svd")(quiet, rank=rank)
    assert isinstance(cut, Merged)
    return cut.adapter
