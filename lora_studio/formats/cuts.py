"""Which modules of diffusers one module of a model's original code stands for, and how its update
is divided among them: rows of B, so that every update stays exactly the same."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.errors import InvalidAdapter


class Cut(NamedTuple):
    """The modules of diffusers that one module of the original code stands for.

    Args:
        paths: diffusers' names, in the order of the rows.
        shares: rows of each, in multiples of the module's inputs; () where one module takes all
            rows, however many.
        swapped: whether diffusers has the halves of a module twice as high as it is wide the other
            way round: scale before shift.
    """

    paths: tuple[str, ...]
    shares: tuple[int, ...] = ()
    swapped: bool = False

    def under(self, component: str) -> Cut:
        """The same with the component before every path."""
        return self._replace(paths=tuple(f"{component}.{path}" for path in self.paths))


def divide(name: str, module: LoraFactors, cut: Cut | None) -> dict[str, LoraFactors]:
    """Path -> factors, of the modules that `module` stands for; itself where `cut` is None.

    A is shared, and B and a DoRA's magnitude are cut by rows. Where the rows of every part use
    ranks of their own only, as trainers write that train the parts apart, each keeps just those.

    Raises:
        InvalidAdapter: the rows are not as many as `cut` says.
    """
    if cut is None:
        return {name: module}
    height = sum(cut.shares) * module.d_in
    if cut.shares and module.d_out != height:
        raise InvalidAdapter(
            f"'{name}' has {module.d_in} inputs and {module.d_out} outputs where {height} were "
            "expected. It may be of a newer model that uses the same names for other layers, such "
            "as Flux.2; convert the adapter with that model's own pipeline first."
        )
    if cut.swapped and module.d_out == 2 * module.d_in:
        module = _rows(module, np.roll(np.arange(module.d_out), module.d_in))
    if len(cut.paths) == 1:
        return {cut.paths[0]: module}
    ends = np.cumsum([share * module.d_in for share in cut.shares])
    spans = np.split(np.arange(module.d_out), ends[:-1])
    own = _own_ranks(module, spans)
    return {
        path: _ranks(_rows(module, span), ranks)
        for path, span, ranks in zip(cut.paths, spans, own, strict=True)
    }


def _rows(module: LoraFactors, rows: np.ndarray) -> LoraFactors:
    magnitude = None if module.magnitude is None else module.magnitude[rows]
    return replace(module, B=module.B[rows], magnitude=magnitude)


def _ranks(module: LoraFactors, ranks: slice) -> LoraFactors:
    return replace(module, A=module.A[ranks], B=module.B[:, ranks])


def _own_ranks(module: LoraFactors, spans: list[np.ndarray]) -> list[slice]:
    """An equal share of the ranks for each span of rows if B is block-diagonal, else all."""
    size, rest = divmod(module.rank, len(spans))
    blocks = [slice(i * size, (i + 1) * size) for i in range(len(spans))]
    used = module.B != 0
    inside = [used[span][:, block] for span, block in zip(spans, blocks, strict=True)]
    apart = not rest and all(part.any() for part in inside)
    if apart and sum(part.sum() for part in inside) == used.sum():
        return blocks
    return [slice(None)] * len(spans)
