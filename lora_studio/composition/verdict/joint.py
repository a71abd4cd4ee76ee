"""The statistics of several adapters put together: one matrix of inner products a module.

A choice of units and weights by module are taken in here; the weight of a whole adapter is not, so
that moving it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.compose import choose_units
from lora_studio.composition.recipe import Source
from lora_studio.errors import IncompatibleAdapters
from lora_studio.rank_units.statistics import Pair, Profile, Shape


@dataclass(frozen=True)
class Member:
    """One module of one adapter, as it takes part.

    Args:
        owner: place of the adapter.
        factor: weight of the module on top of the adapter's.
        units: (rank,) which units take part, None for all.
    """

    owner: int
    shape: Shape
    factor: float
    units: np.ndarray | None

    @property
    def rank(self) -> int:
        return self.shape.rank if self.units is None else len(self.units)


@dataclass(frozen=True, eq=False)
class Group:
    """Modules that the same adapters have at the same ranks.

    Args:
        names: the modules. owners: places of the adapters, ascending. ranks: of each of them.
        a, b: (modules, R, R) inner products of all rows of A, and of all columns of B, one adapter
            after another; R is the sum of `ranks`.
        factors: (modules, owners) weight by module.
    """

    names: tuple[str, ...]
    owners: tuple[int, ...]
    ranks: tuple[int, ...]
    a: np.ndarray
    b: np.ndarray
    factors: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """(owners,) where each adapter's units begin."""
        return np.cumsum([0, *self.ranks[:-1]])

    @property
    def total(self) -> int:
        """R, the sum of ranks."""
        return sum(self.ranks)


@dataclass(frozen=True, eq=False)
class Joint:
    """Several adapters together.

    Args:
        profiles: one for each. pairs: by places, smaller first.
        members: module -> who takes part in it.
    """

    profiles: Sequence[Profile]
    pairs: Mapping[tuple[int, int], Pair]
    members: Mapping[str, Sequence[Member]]

    @property
    def size(self) -> int:
        """How many adapters."""
        return len(self.profiles)

    def shape(self, name: str) -> Shape:
        """Of the layer; the rank in it means nothing."""
        return self.members[name][0].shape

    def groups(self, names: Iterable[str]) -> list[Group]:
        """These modules, gathered into groups."""
        alike: dict[tuple[tuple[int, int], ...], list[str]] = {}
        for name in names:
            key = tuple((m.owner, m.rank) for m in self.members[name])
            alike.setdefault(key, []).append(name)
        return [self._group(key, chosen) for key, chosen in alike.items()]

    def _group(self, key: tuple[tuple[int, int], ...], names: Sequence[str]) -> Group:
        ranks = tuple(rank for _, rank in key)
        ends = np.cumsum([0, *ranks])
        a, b = (np.empty((len(names), ends[-1], ends[-1]), np.float32) for _ in range(2))
        for x, (i, _) in enumerate(key):
            for y, (j, _) in enumerate(key[x:], start=x):
                rows, columns = slice(ends[x], ends[x + 1]), slice(ends[y], ends[y + 1])
                blocks = [self._block(name, i, j, x, y) for name in names]
                for side, whole in enumerate((a, b)):
                    part = np.stack([block[side] for block in blocks])
                    whole[:, rows, columns] = part
                    whole[:, columns, rows] = part.mT
        factors = np.array([[m.factor for m in self.members[name]] for name in names])
        return Group(tuple(names), tuple(i for i, _ in key), ranks, a, b, factors)

    def _block(self, name: str, i: int, j: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        source = self.profiles[i] if i == j else self.pairs[i, j]
        a, b = source.block(name)
        one, two = self.members[name][x].units, self.members[name][y].units
        if one is not None:
            a, b = a[one], b[one]
        return (a, b) if two is None else (a[:, two], b[:, two])

    @cached_property
    def inner(self) -> dict[str, np.ndarray]:
        """Module -> (adapters, adapters) inner products of their updates, exact."""
        found: dict[str, np.ndarray] = {}
        for name, members in self.members.items():
            found[name] = whole = np.zeros((self.size, self.size))
            for x, one in enumerate(members):
                for y, two in enumerate(members[x:], start=x):
                    i, j = one.owner, two.owner
                    value = one.factor * two.factor * self._inner(name, one, two, x, y)
                    whole[i, j] = whole[j, i] = value
        return found

    def _inner(self, name: str, one: Member, two: Member, x: int, y: int) -> float:
        if one.units is not None or two.units is not None:
            a, b = self._block(name, one.owner, two.owner, x, y)
            return float((a.astype(np.float64) * b).sum())
        if one.owner == two.owner:
            return self.profiles[one.owner].squares[name]
        pair = self.pairs[one.owner, two.owner]
        return float(pair.angles[pair.places[name], 4])

    @cached_property
    def products(self) -> np.ndarray:
        """(adapters, adapters) inner products over all modules."""
        return np.sum(list(self.inner.values()), axis=0)

    @cached_property
    def norms(self) -> np.ndarray:
        """(adapters,) Frobenius norm of each."""
        return np.sqrt(np.maximum(np.diag(self.products), 0.0))

    @cached_property
    def cosines(self) -> np.ndarray:
        """(adapters, adapters) cosines of their updates."""
        safe = np.where(self.norms > 0, self.norms, 1.0)
        return np.clip(self.products / np.outer(safe, safe), -1, 1)


def join(
    profiles: Sequence[Profile],
    pairs: Mapping[tuple[int, int], Pair],
    sources: Sequence[Source] | None = None,
    titles: Sequence[str] = (),
) -> Joint:
    """Puts adapters together.

    Args:
        sources: which units and module weights of each take part; whole adapters by default.
        titles: of the adapters, for what is said of one.

    Raises:
        IncompatibleAdapters: a module that is of one size in one adapter and another in the next,
            or DoRA in one of several (its update is not a sum).
        InvalidRequest: as `choose_units`.
    """
    members: dict[str, list[Member]] = {}
    for owner, profile in enumerate(profiles):
        source = Source("") if sources is None else sources[owner]
        for name, shape, factor, units in _kept(profile, source):
            members.setdefault(name, []).append(Member(owner, shape, factor, units))
    for name, found in members.items():
        _check(name, [(member.shape, _called(member.owner, titles)) for member in found])
    return Joint(profiles, pairs, dict(sorted(members.items())))


def _kept(
    profile: Profile, source: Source
) -> Iterator[tuple[str, Shape, float, np.ndarray | None]]:
    """What `choose_units` keeps, asked of an adapter whose rows of A are their own numbers."""
    numbered = {
        name: LoraFactors(
            np.arange(shape.rank, dtype=np.float32)[:, None],
            np.ones((1, shape.rank), np.float32),
            component=shape.component,
        )
        for name, shape in profile.shapes.items()
    }
    for name, module in choose_units(Adapter(numbered), source).factors.items():
        shape = profile.shapes[name]
        units = None if module.rank == shape.rank else module.A[:, 0].astype(int)
        yield name, shape, module.scaling, units


def _check(name: str, shapes: Sequence[tuple[Shape, str]]) -> None:
    first, whose = shapes[0]
    for shape, title in shapes:
        if (shape.d_in, shape.d_out, shape.layer) != (first.d_in, first.d_out, first.layer):
            raise IncompatibleAdapters(
                f"'{name}' is {_described(first)} in {whose} and {_described(shape)} in {title}; "
                "they belong to different base models."
            )
        if shape.dora and len(shapes) > 1:
            raise IncompatibleAdapters(
                f"In {title}, '{name}' is a DoRA module. Its update also rescales the base weights "
                "and cannot be merged from factors alone; leave that adapter out of a merge."
            )


def _called(owner: int, titles: Sequence[str]) -> str:
    return f"‘{titles[owner]}’" if titles else f"adapter {owner + 1}"


def _described(shape: Shape) -> str:
    return f"{shape.layer} {shape.d_in}→{shape.d_out}"
