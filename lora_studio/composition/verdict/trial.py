"""What a method makes of the stand-ins, and what that says of the real merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.composition.method import METHODS, Inputs
from lora_studio.composition.plan import Merged
from lora_studio.composition.verdict.cores import Core, cores_of, kind_of, sample, stand_ins
from lora_studio.composition.verdict.joint import Joint
from lora_studio.composition.verdict.nature import nature

How = Literal["exact", "sampled", "estimate"]
"""exact; exact of the modules that were tried; an estimate, since single entries matter."""
SUM = 1e-5
"""Share of a merge's energy that may differ from the plain sum's for the two to be one."""
NOTHING = 1e-10


@dataclass(frozen=True, eq=False)
class Made:
    """Figures of a merge.

    Args:
        inner: (adapters,) inner products of the result with each source.
        square: squared norm of the result.
        kept: (adapters,) squared norm of each source within the result's input and output spaces.
        ranks: module -> rank of the result, also of modules that were not tried.
    """

    inner: np.ndarray
    square: float
    kept: np.ndarray
    ranks: Mapping[str, int]
    how: How


class Bench:
    """Tries methods on one set of adapters.

    Args:
        weights: one per adapter, not zero.
        ids: one per adapter; methods put them in this order.
        names: modules that are tried; by default as many as a moment allows.
    """

    def __init__(
        self,
        joint: Joint,
        weights: Sequence[float],
        ids: Sequence[str],
        *,
        seed: int = 0,
        base: str = "",
        family: str = "",
        names: Sequence[str] | None = None,
    ) -> None:
        self.joint, self.ids, self.seed, self.base, self.family = joint, ids, seed, base, family
        self.weights = np.asarray(weights, np.float64)
        self.names = sample(joint) if names is None else sorted(names)
        self._inputs: dict[bool, tuple[Inputs, list[int]]] = {}

    @property
    def whole(self) -> bool:
        """Whether every module is tried."""
        return len(self.names) == len(self.joint.members)

    @property
    def work(self) -> float:
        """Sum over tried modules of the cube of their units."""
        found = self.joint.members
        return sum(float(sum(m.rank for m in found[n])) ** 3 for n in self.names)

    def only(self, names: Sequence[str]) -> Bench:
        """The same for these modules alone."""
        return Bench(
            self.joint,
            self.weights.tolist(),
            self.ids,
            seed=self.seed,
            base=self.base,
            family=self.family,
            names=names,
        )

    @cached_property
    def cores(self) -> dict[str, Core]:
        """Stand-ins of the modules that are tried."""
        return cores_of(self.joint, self.names)

    def make(self, name: str, params: Mapping[str, Any]) -> Made:
        """Tries a method.

        Raises:
            LoraStudioError: it refuses these adapters, and why.
        """
        traits = nature(name, params)
        alike = traits.alike
        inputs, places = self._given(not alike)
        plan = METHODS.get(name)(inputs, **params)
        assert isinstance(plan, Merged)
        made = {n: plan.adapter.factors[n] for n in self.names if n in plan.adapter.factors}
        ranks = self._ranks({n: m.rank for n, m in made.items()})
        size = self.joint.size
        rows = {n: _along(m, inputs, n, places, size) for n, m in made.items()}
        if alike and not traits.sized and (strength := self._as_sum(rows)) is not None:
            return self.summed(strength, ranks)
        rows = {n: _within(m, inputs, n, places, rows[n]) for n, m in made.items()}
        how: How = "estimate" if traits.sized or not alike else "exact" if self.whole else "sampled"
        return self._combined(rows, ranks, how)

    def summed(self, strength: float, ranks: Mapping[str, int]) -> Made:
        """Figures of `strength` times the weighted sum, exact over all modules."""
        products, w = self.joint.products, self.weights
        return Made(
            strength * products @ w,
            float(strength**2 * (w @ products @ w)),
            np.diag(products).copy(),
            ranks,
            "exact",
        )

    def single(self, place: int) -> Made:
        """Figures of one source as it is, at weight 1."""
        inputs, places = self._given(False)
        rows: dict[str, _Row] = {}
        if place in places:
            alone = inputs.adapters[places.index(place)].factors
            for n, m in alone.items():
                row = _along(m, inputs, n, places, self.joint.size)
                rows[n] = _within(m, inputs, n, places, row)
        ranks = {
            n: m.rank for n, found in self.joint.members.items() for m in found if m.owner == place
        }
        made = self._combined(rows, ranks, "exact" if self.whole else "sampled")
        products = self.joint.products
        return replace(made, inner=products[place].copy(), square=float(products[place, place]))

    def _given(self, turned: bool) -> tuple[Inputs, list[int]]:
        if turned not in self._inputs:
            made, places = stand_ins(self.joint, self.cores, self.base, turned)
            inputs = Inputs(
                made,
                [float(self.weights[i]) for i in places],
                seed=self.seed,
                ids=[self.ids[i] for i in places],
                family=self.family,
            )
            self._inputs[turned] = inputs, places
        return self._inputs[turned]

    def _as_sum(self, rows: Mapping[str, _Row]) -> float | None:
        """The strength of the plain sum that a merge is, None for one that is none."""
        w = self.weights
        squares = sum(float(w @ self.joint.inner[n] @ w) for n in rows)
        along = sum(float(w @ row.inner) for row in rows.values())
        own = sum(row.square for row in rows.values())
        if squares <= 0 or own <= 0:
            return None
        strength = along / squares
        apart = own - 2 * strength * along + strength**2 * squares
        return strength if apart < SUM * own else None

    def _combined(self, rows: Mapping[str, _Row], ranks: Mapping[str, int], how: How) -> Made:
        """Sums over modules; those not tried count as the tried ones of their kind do, in
        proportion to what the sources hold there."""
        size = self.joint.size
        inner, kept, square = np.zeros(size), np.zeros(size), 0.0
        for tried, all_of in self._kinds(rows):
            have, held = (
                np.array([np.diag(self.joint.inner[n]) for n in names]).sum(0)
                for names in (all_of, tried)
            )
            share = np.divide(have, held, out=np.zeros(size), where=held > 0)
            whole = float(self.weights**2 @ have) / max(float(self.weights**2 @ held), 1e-300)
            inner += share * np.sum([rows[n].inner for n in tried], axis=0)
            kept += share * np.sum([rows[n].kept for n in tried], axis=0)
            square += whole * sum(rows[n].square for n in tried)
        return Made(inner, square, kept, ranks, how)

    def _kinds(self, tried: Mapping[str, Any]) -> list[tuple[list[str], list[str]]]:
        kinds: dict[tuple[Any, ...], tuple[list[str], list[str]]] = {}
        for name, members in self.joint.members.items():
            key = (kind_of(name), sum(m.rank for m in members))
            found = kinds.setdefault(key, ([], []))
            found[1].append(name)
            if name in tried:
                found[0].append(name)
        return [pair for pair in kinds.values() if pair[0]]

    def _ranks(self, tried: Mapping[str, int]) -> dict[str, int]:
        """Ranks of all modules; one not tried gets the mean of the tried ones of its kind."""
        found: dict[str, int] = {}
        for some, all_of in self._kinds(tried):
            mean = round(sum(tried[n] for n in some) / len(some))
            found |= {n: tried.get(n, mean) for n in all_of}
        return found


@dataclass(frozen=True, eq=False)
class _Row:
    inner: np.ndarray
    square: float
    kept: np.ndarray


def _along(made: LoraFactors, inputs: Inputs, name: str, places: Sequence[int], size: int) -> _Row:
    """How one module of the result lies to the sources' (`size` of them)."""
    inner = np.zeros(size)
    for module, place in _present(inputs, name, places):
        x, y = module.A @ made.A.T, module.scaling * module.B.T @ made.B  # (r, k)
        inner[place] = made.scaling * float((x * y).sum(dtype=np.float64))
    gram = (made.A @ made.A.T) * (made.B.T @ made.B)
    return _Row(inner, made.scaling**2 * float(gram.sum(dtype=np.float64)), np.zeros(size))


def _within(made: LoraFactors, inputs: Inputs, name: str, places: Sequence[int], row: _Row) -> _Row:
    """The same with what of each source lies within the result's input and output spaces."""
    a, b = made.A.astype(np.float64), made.B.T.astype(np.float64)  # (k, q)
    basis_a, basis_b = _spanned(_root(b @ b.T) @ a), _spanned(_root(a @ a.T) @ b)
    kept = np.zeros(len(row.inner))
    for module, place in _present(inputs, name, places):
        left, right = module.scaling * basis_b.T @ module.B, module.A @ basis_a
        kept[place] = float(((left @ right) ** 2).sum())
    return replace(row, kept=kept)


def _present(inputs: Inputs, name: str, places: Sequence[int]) -> Iterator[tuple[LoraFactors, int]]:
    for adapter, place in zip(inputs.adapters, places, strict=True):
        if name in adapter.factors:
            yield adapter.factors[name], place


def _root(gram: np.ndarray) -> np.ndarray:
    """The symmetric square root of a Gram matrix."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _spanned(rows: np.ndarray) -> np.ndarray:
    """(q, n) orthonormal columns that span what rows (k, q) span, but for rounding."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    alive = values > NOTHING * max(values[-1], 0.0)
    return rows.T @ (vectors[:, alive] / np.sqrt(values[alive]))
