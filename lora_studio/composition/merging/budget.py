"""How much rank a merged module gets: one number, by what its directions hold, or shared out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lora_studio.composition.merging.modules import Stack, merge_modules, modules_of, stacks_of
from lora_studio.composition.merging.params import BudgetKind
from lora_studio.composition.method import Inputs
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import apply_scale
from lora_studio.rank_units.unit import factored_svd

NOTHING = 1e-6
"""Singular values beneath this share of the largest are rounding."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A merged module as its singular triplets, largest first: update = u @ diag(s) @ vt.

    Args:
        u: (d_out, q); s: (q,), not negative; vt: (q, d_in).
        energy: squared Frobenius norm of the whole update, of which these may be only a part.
    """

    u: np.ndarray
    s: np.ndarray
    vt: np.ndarray
    energy: float

    def flattened(self, among: int) -> Spectrum:
        """The same directions, all at the mean of `among` singular values (missing ones are 0)."""
        alive = int((self.s > NOTHING * self.s[:1]).sum())
        mean = self.s.sum() / max(among, 1)
        s = np.full(alive, mean)
        return replace(self, u=self.u[:, :alive], s=s, vt=self.vt[:alive], energy=float(s @ s))

    def cut(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """A (rank, d_in) and B (d_out, rank); fewer where there are fewer directions."""
        return self.vt[:rank], self.u[:, :rank] * self.s[:rank]


Merge = Callable[[Stack, int | None], Spectrum]
"""(stack, most) -> its merged update; no more than `most` directions are needed, None = all."""


@dataclass(frozen=True)
class Budget:
    """The rank of a result.

    fixed: `rank` everywhere. energy: the fewest directions that hold `keep` of the energy
    sum s^2. sv_ratio: those with s >= (1 - keep) s_1. shared: `rank` on average over modules, the
    largest singular values of the whole adapter first, which loses least of all updates together;
    at least one direction per module.

    Args:
        rank: 0 = `usual` of the source ranks for fixed and shared, no limit for the others.
        keep: 0.5 .. 1, for energy and sv_ratio.
        usual: of a module's source ranks, `max` or `sum`.
    """

    rank: int = 0
    kind: BudgetKind = "fixed"
    keep: float = 0.95
    usual: Callable[[Sequence[int]], int] = max

    def asked(self, stack: Stack) -> int:
        """The rank a module is asked to have under fixed, and to bring into a shared budget."""
        return self.rank or self.usual(stack.ranks)

    def chosen(self, spectrum: Spectrum) -> int:
        """How many directions energy or sv_ratio keep, at least one."""
        s = spectrum.s
        if self.kind == "energy":
            held = np.cumsum(s**2) >= self.keep * spectrum.energy * (1 - 1e-9)
            count = int(np.argmax(held)) + 1 if held.any() else len(s)
        else:
            count = int((s >= (1 - self.keep) * s[0]).sum())
        return max(min(count, self.rank or count), 1)


def spectrum_of(a: np.ndarray, b: np.ndarray, most: int | None = None) -> Spectrum:
    """The singular triplets of b @ a, which is never formed."""
    u, s, vt = factored_svd(a, b, most)
    return Spectrum(u, s, vt, float(s @ s))


def summed(stack: Stack, most: int | None = None) -> Spectrum:
    """The weighted sum of the updates; also what a module is that only one adapter has."""
    return spectrum_of(*stack.concatenated(), most)


def of_several(merge: Merge) -> Merge:
    """`merge`, and what only one adapter has stays as it is."""
    return lambda stack, most: (merge if len(stack.modules) > 1 else summed)(stack, most)


def merge_within(
    inputs: Inputs,
    merge: Merge,
    budget: Budget,
    scale: float,
    auto_scale: bool,
    *,
    dense: bool = False,
) -> Merged:
    """Merges every module, cuts it to its rank, and sets the strength of the whole.

    A shared budget merges twice: once to see all singular values, once to write.

    Args:
        dense: whether `merge` looks at whole updates.

    Raises:
        IncompatibleAdapters, InvalidRequest: as `merge_modules`.
    """
    ranks: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    if budget.kind == "shared":
        stacks = stacks_of(inputs)
        found = modules_of(inputs, stacks, lambda stack: merge(stack, None).s)
        total = sum(budget.asked(stack) for stack in stacks.values())
        ranks = {name: len(kept) for name, kept in highest(found, total).items()}
        notes = (ranks_note(ranks.values()),)

    def cut(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
        if budget.kind in ("fixed", "shared"):
            most = ranks.get(stack.name, budget.asked(stack))
            return merge(stack, most).cut(most)
        spectrum = merge(stack, None)
        return spectrum.cut(budget.chosen(spectrum))

    merged = merge_modules(inputs, cut, dense=dense)
    adapter, said = apply_scale(merged, inputs, scale, auto_scale)
    return Merged(adapter, (*notes, *said))


def ranks_note(ranks: Collection[int]) -> str:
    """What a person should know of ranks that differ between modules."""
    return f"Ranks {min(ranks)} to {max(ranks)} per module, {sum(ranks)} in all."


def highest(values: Mapping[str, np.ndarray], total: int) -> dict[str, np.ndarray]:
    """Indices of the kept directions of each module, `total` together: the best of each module,
    then the best of all by these values."""
    best = {name: int(np.argmax(v)) for name, v in values.items()}
    rest = [
        (-float(v), name, i)
        for name, each in values.items()
        for i, v in enumerate(each)
        if i != best[name]
    ]
    kept = {name: [i] for name, i in best.items()}
    for _, name, i in sorted(rest)[: max(total - len(best), 0)]:
        kept[name].append(i)
    return {name: np.array(sorted(indices)) for name, indices in kept.items()}
