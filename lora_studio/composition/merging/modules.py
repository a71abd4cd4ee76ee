"""Going through the modules of several adapters one by one: what every merge has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition.method import Inputs
from lora_studio.errors import IncompatibleAdapters, InvalidRequest


@dataclass(frozen=True)
class Stack:
    """One module's factors over the adapters that have it, with the adapters' weights."""

    name: str
    modules: tuple[LoraFactors, ...]
    weights: tuple[float, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(m.rank for m in self.modules)

    @property
    def like(self) -> LoraFactors:
        """What kind of layer it is: some formats call a 1x1 convolution a linear layer."""
        return next((m for m in self.modules if m.kind == "conv"), self.modules[0])

    def concatenated(self) -> tuple[np.ndarray, np.ndarray]:
        """A (R, d_in) and B (d_out, R) with B @ A the weighted sum of updates, R = sum of ranks."""
        folded = [m.scaled(w).folded() for m, w in zip(self.modules, self.weights, strict=True)]
        a = np.concatenate([m.A for m in folded], axis=0)
        b = np.concatenate([m.B for m in folded], axis=1)
        return a, b


Merge = Callable[[Stack], tuple[np.ndarray, np.ndarray]]
"""Stack -> A (k, d_in), B (d_out, k) of the merged module."""


def merge_modules(inputs: Inputs, merge: Merge) -> Adapter:
    """Applies `merge` to each module in the union of the adapters' modules.

    Adapters of weight zero take no part. Adapters enter each stack in order of their content, so
    the order they were given in does not matter.

    Raises:
        IncompatibleAdapters: sizes that differ, or DoRA (its update is not a sum).
        InvalidRequest: nothing left to merge.
    """
    active = [(a, float(w)) for a, w in zip(inputs.adapters, inputs.weights, strict=True) if w]
    if not active:
        raise InvalidRequest("Every weight is zero. Give at least one adapter a weight.")
    active.sort(key=lambda item: (item[0].id, item[1]))
    names = sorted({name for adapter, _ in active for name in adapter.factors})
    merged: dict[str, LoraFactors] = {}
    for position, name in enumerate(names):
        inputs.progress(position / len(names), f"module {position + 1} of {len(names)}")
        present = [(a.factors[name], w) for a, w in active if name in a.factors]
        stack = Stack(name, tuple(m for m, _ in present), tuple(w for _, w in present))
        _check(stack)
        a, b = merge(stack)
        merged[name] = replace(
            stack.like,
            A=np.ascontiguousarray(a, dtype=np.float32),
            B=np.ascontiguousarray(b, dtype=np.float32),
            scaling=1.0,
        )
    inputs.progress(1.0, "merged")
    return Adapter(merged, AdapterCard(base_model=active[0][0].card.base_model))


def _check(stack: Stack) -> None:
    first = stack.modules[0]
    for module in stack.modules:
        if _shape(module) != _shape(first):
            raise IncompatibleAdapters(
                f"'{stack.name}' is {_described(first)} in one adapter and {_described(module)} "
                "in another; they belong to different base models."
            )
        if module.magnitude is not None and len(stack.modules) > 1:
            raise IncompatibleAdapters(
                f"'{stack.name}' is a DoRA module. Its update also rescales the base weights and "
                "cannot be merged from factors alone; leave that adapter out."
            )


def _shape(module: LoraFactors) -> tuple[object, ...]:
    """What must agree; a 1x1 convolution is a linear layer."""
    kind = "linear" if module.kind == "conv" and _taps(module) == (1, 1) else module.kind
    return module.d_in, module.d_out, kind, _taps(module)


def _taps(module: LoraFactors) -> tuple[int, ...]:
    return tuple(module.kernel[1:]) if module.kernel else (1, 1)


def _described(module: LoraFactors) -> str:
    kernel = "" if _taps(module) == (1, 1) else f" under {'x'.join(map(str, _taps(module)))} taps"
    return f"{module.kind} {module.d_in}→{module.d_out}{kernel}"
