"""K-LoRA: each layer passes from the content adapter to the style adapter at its own time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.composition.denoising.actors import Actor, actors, curves, together
from lora_studio.composition.method import Help, Inputs, Progress, Range, method
from lora_studio.composition.schedule import Branch, Scheduled, constant
from lora_studio.errors import InvalidRequest

OUTLIER = 3.0
"""Layers whose norm ratio is this many times the mean are left out of gamma."""


@dataclass(frozen=True)
class Layer:
    """What one module weighs in both adapters: sum of its K largest entries, and its L1 norm."""

    content: float
    style: float
    content_norm: float
    style_norm: float


@method("k_lora", title="K-LoRA", kind="denoising", paper="https://arxiv.org/abs/2502.18461")
def k_lora(
    inputs: Inputs,
    *,
    variant: Annotated[
        Literal["s*", "s"], Help("s: from content to style; s*: some style first, then the same")
    ] = "s*",
    alpha: Annotated[float, Range(0.1, 4.0, 0.05, "How far the threshold rises over a run")] = 1.5,
    beta: Annotated[
        float, Range(0.0, 4.0, 0.05, "Where it begins; 0 = 0.5 for s, 0.85 alpha for s*")
    ] = 0.0,
) -> Scheduled:
    """Chooses, layer by layer and step by step, the content adapter or the style adapter.

    S = sum of the K = r_c r_s largest entries of |Delta|; gamma = mean over layers of
    |Delta_c|_1 / |Delta_s|_1, without layers at three times the mean or more. A layer takes the
    content while alpha p + beta (s* : modulo alpha) < S_c / (gamma S_s), p = step / steps, else the
    style. That quotient does not depend on the step, so it is computed once. First adapter =
    content, second = style; a module only one of them has is always its own; both act on the text
    encoder. One adapter alone acts whole. As fast as a plain run.
    """
    cast = actors(inputs)
    if len(cast) > 2:
        raise InvalidRequest(
            f"K-LoRA takes two adapters, content and style, and here are {len(cast)}. Switch the "
            "others off."
        )
    if len(cast) == 1 or cast[0].id == cast[1].id:
        return Scheduled((constant(together(cast)),))
    content, style = cast
    quotients = _quotients(content, style, inputs.progress)
    start = beta or (0.5 if variant == "s" else 0.85 * alpha)

    def acting(step: int, steps: int) -> dict[str, dict[str, float]]:
        level = alpha * step / steps + start
        level = level % alpha if variant == "s*" else level
        taken = {name for name, quotient in quotients.items() if level < quotient}
        return {
            actor.id: {
                name: actor.weight if name not in quotients or (name in taken) == first else 0.0
                for name in _denoiser(actor)
            }
            for actor, first in ((content, True), (style, False))
        }

    text = together(cast)
    branch = Branch(acting, lambda step, steps: text)
    return Scheduled((branch,), curves=curves(acting), notes=_notes(content, style, len(quotients)))


def _denoiser(actor: Actor) -> Mapping[str, LoraFactors]:
    """The adapter's modules outside the text encoders."""
    factors = actor.adapter.factors
    return {n: m for n, m in factors.items() if not m.component.startswith("text_encoder")}


def _quotients(content: Actor, style: Actor, progress: Progress) -> dict[str, float]:
    """Module -> S_c / (gamma S_s), for the modules both have."""
    ours, theirs = _denoiser(content), _denoiser(style)
    shared = sorted(ours.keys() & theirs.keys())
    layers: dict[str, Layer] = {}
    for position, name in enumerate(shared):
        progress(position / len(shared), f"weighing layer {position + 1} of {len(shared)}")
        layers[name] = _weighed(ours[name], theirs[name])
    gamma = _gamma(list(layers.values()))
    return {name: _quotient(layer, gamma) for name, layer in layers.items()}


def _quotient(layer: Layer, gamma: float) -> float:
    if layer.style:
        return layer.content / (gamma * layer.style)
    return inf if layer.content else 0.0


def _weighed(content: LoraFactors, style: LoraFactors) -> Layer:
    count = content.rank * style.rank
    (top_c, norm_c), (top_s, norm_s) = _sums(content, count), _sums(style, count)
    return Layer(top_c, top_s, norm_c, norm_s)


def _sums(module: LoraFactors, count: int) -> tuple[float, float]:
    """Sums of the `count` largest and of all entries of |Delta|; one dense update at a time."""
    sizes = np.abs(module.delta()).ravel()
    whole = float(sizes.sum(dtype=np.float64))
    if count >= sizes.size:
        return whole, whole
    largest = np.partition(sizes, sizes.size - count)[sizes.size - count :]
    return float(largest.sum(dtype=np.float64)), whole


def _gamma(layers: list[Layer]) -> float:
    ratios = np.array([x.content_norm / x.style_norm for x in layers if x.style_norm])
    if not ratios.any():
        return 1.0
    return float(ratios[ratios < OUTLIER * ratios.mean()].mean())


def _notes(content: Actor, style: Actor, shared: int) -> tuple[str, ...]:
    alone = len(_denoiser(content).keys() ^ _denoiser(style).keys())
    if not shared:
        return ("The two adapters have no module in common, so both act all along.",)
    if alone:
        return (f"{alone} modules are in one adapter only and always act; {shared} are shared.",)
    return ()
