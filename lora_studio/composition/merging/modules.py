"""Going through the modules of several adapters one by one: what every merge has in common.

Several modules are merged at once, one on each core, as many as `ROOM` allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition.method import Inputs
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from lora_studio.lazy_factors import LazyFactors, cores

ROOM = 384 << 20
"""Bytes that modules in the making may take together, if one alone does not take more."""
COPIES = 6
"""How many times the size of its pooled factors a merge of one module takes, at most."""


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


T = TypeVar("T")
Merge = Callable[[Stack], tuple[np.ndarray, np.ndarray]]
"""Stack -> A (k, d_in), B (d_out, k) of the merged module."""


def taking_part(inputs: Inputs) -> list[int]:
    """Places of the adapters with a weight, in order of their ids, so that the order in which
    adapters were given does not matter."""
    ids = inputs.ids or [adapter.id for adapter in inputs.adapters]
    places = [i for i, weight in enumerate(inputs.weights) if weight]
    return sorted(places, key=lambda i: (ids[i], float(inputs.weights[i])))


def stacks_of(inputs: Inputs) -> dict[str, Stack]:
    """Module -> the factors of all adapters that have it; looks at sizes, reads no numbers.

    Adapters enter each stack in the order of `taking_part`.

    Raises:
        IncompatibleAdapters: sizes that differ, or DoRA (its update is not a sum).
        InvalidRequest: nothing left to merge.
    """
    places = taking_part(inputs)
    if not places:
        raise InvalidRequest("Every weight is zero. Give at least one adapter a weight.")
    active = [(inputs.adapters[i], float(inputs.weights[i])) for i in places]
    found: dict[str, Stack] = {}
    for name in sorted({name for adapter, _ in active for name in adapter.factors}):
        present = [(a.factors[name], w) for a, w in active if name in a.factors]
        found[name] = Stack(name, tuple(m for m, _ in present), tuple(w for _, w in present))
        _check(found[name])
    return found


def merge_modules(inputs: Inputs, merge: Merge, *, dense: bool = False) -> Adapter:
    """Applies `merge` to each module in the union of the adapters' modules.

    Under `inputs.stream` the modules of the result are made when somebody asks for them.

    Args:
        merge: called from several threads at once.
        dense: whether it looks at whole updates, which are far larger than their factors; then
            one module is merged at a time.

    Raises:
        IncompatibleAdapters, InvalidRequest: as `stacks_of`.
    """
    stacks = stacks_of(inputs)

    def make(name: str) -> LoraFactors:
        a, b = merge(stacks[name])
        a, b = (np.ascontiguousarray(f, dtype=np.float32) for f in (a, b))
        return replace(stacks[name].like, A=a, B=b, scaling=1.0)

    threads = 1 if dense else _threads(stacks.values())
    base = max(adapter.card.base_model for adapter in inputs.adapters)
    merged = Adapter(
        LazyFactors(list(stacks), make, threads, _teller(inputs, len(stacks))),
        AdapterCard(base_model=base),
    )
    return merged if inputs.stream else merged.collected()


def modules_of(
    inputs: Inputs, stacks: Mapping[str, Stack], look: Callable[[Stack], T]
) -> dict[str, T]:
    """What `look` finds in each module, several at once; for what must be known of all modules
    before one is merged."""
    threads, told = _threads(stacks.values()), _teller(inputs, len(stacks))
    return dict(LazyFactors(list(stacks), lambda n: look(stacks[n]), threads, told).each())


def _teller(inputs: Inputs, of: int) -> Callable[[int], None]:
    def told(done: int) -> None:
        words = f"module {done + 1} of {of}" if done < of else "merged"
        inputs.progress(done / of, words)

    return told


def _threads(stacks: Iterable[Stack]) -> int:
    largest = max(4 * sum(m.A.size + m.B.size for m in stack.modules) for stack in stacks)
    return max(1, min(cores(), ROOM // (COPIES * largest)))


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
