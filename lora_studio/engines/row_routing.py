"""Token routers in a batch: whose each rank unit is and what the rules need, one slice per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from lora_studio.composition.token_router import RULES, Seen, TokenRouter

Watch = Callable[[Seen, Tensor], None]
"""Told what a router saw and how much of each unit it let pass, (n, T, R)."""
PER_UNIT = ("norms", "unit_keys")
"""Extras with one entry for each unit; the others have one for each adapter."""


@dataclass(frozen=True, eq=False)
class PlanRouting:
    """A token router in one module, for one plan.

    Args:
        owners: (r,) which term of the plan each unit belongs to.
        terms: how many terms the plan has.
        extras, query: as in `Seen`, without the dimension of rows.
    """

    router: TokenRouter
    owners: Tensor
    terms: int
    extras: Mapping[str, Tensor]
    query: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, eq=False)
class RowRouting:
    """The token routers of n rows in one module. Tensors have n slices, or one for all rows.

    Args:
        routers: of each row; None lets every unit pass.
        owners: (n, R) term of each unit, -1 where there is padding.
        terms: (n,) terms of each row's plan.
        extras: (n, units or terms, ...), zero where a row needs none.
    """

    routers: tuple[TokenRouter | None, ...]
    owners: Tensor
    terms: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    query: tuple[Tensor, Tensor] | None = None

    @classmethod
    def stack(
        cls, pieces: Sequence[PlanRouting | None], index: Sequence[int], width: int
    ) -> RowRouting | None:
        """Row i gets pieces[index[i]]; None where no row is routed. `width` is R."""
        known = [piece for piece in pieces if piece is not None]
        if not known:
            return None
        like = known[0].owners
        terms = torch.tensor([p.terms if p else 0 for p in pieces], device=like.device)
        owners = like.new_full((len(pieces), width), -1)
        for row, piece in enumerate(pieces):
            if piece is not None:
                owners[row, : len(piece.owners)] = piece.owners
        extras = {
            name: _stacked([p.extras.get(name) if p else None for p in pieces], name, width)
            for name in dict.fromkeys(n for p in known for n in p.extras)
        }
        query = next((p.query for p in known if p.query is not None), None)
        routers = tuple(p.router if p else None for p in pieces)
        one = cls(routers, owners, terms, extras, query)
        if len(pieces) == 1:
            return one._with(tuple(routers[i] for i in index))
        return one.rows(index, width)

    def passed(self, x: Tensor, z: Tensor, B: Tensor, watch: Watch | None = None) -> Tensor:
        """z (n, T, R) = A x, each unit as far as its row's router lets it pass."""
        found = dict.fromkeys(self.routers)
        if len(found) == 1 and None not in found:
            return z * self._weights(self.routers[0], x, z, B, None, watch).to(z.dtype)
        passing = z.clone()
        for router in found:
            if router is not None:
                places = [i for i, other in enumerate(self.routers) if other == router]
                rows = torch.tensor(places, device=z.device)
                weights = self._weights(router, x[rows], z[rows], B[rows], rows, watch)
                passing[rows] = z[rows] * weights.to(z.dtype)
        return passing

    def rows(self, keep: Sequence[int], width: int) -> RowRouting:
        """The rows `keep`, units trimmed to `width`."""
        routers = tuple(self.routers[i] for i in keep)
        one = self._trimmed(width)._with(routers)
        if len(self.owners) == 1 and len(self.routers) > 1:
            return one
        order = torch.tensor(keep, device=self.owners.device)
        extras = {name: t.index_select(0, order) for name, t in one.extras.items()}
        owners, terms = one.owners.index_select(0, order), one.terms.index_select(0, order)
        return RowRouting(routers, owners, terms, extras, self.query)

    def spread(self, width: int) -> RowRouting:
        """One slice for each row, units padded to `width`."""
        n = len(self.routers)

        def each(tensor: Tensor, long: int, value: float = 0.0) -> Tensor:
            return padded_to(tensor.expand(n, *tensor.shape[1:]), long, 1, value)

        extras = {k: each(t, width if k in PER_UNIT else 0) for k, t in self.extras.items()}
        owners = each(self.owners, width, -1)
        return RowRouting(self.routers, owners, self.terms.expand(n), extras, self.query)

    def repeated(self, n: int) -> RowRouting:
        """The first row n times, in one slice."""
        extras = {name: t[:1] for name, t in self.extras.items()}
        first = self.routers[:1] * n
        return RowRouting(first, self.owners[:1], self.terms[:1], extras, self.query)

    @staticmethod
    def blank(n: int, width: int, like: RowRouting) -> RowRouting:
        """n rows without a router."""
        owners = like.owners.new_full((n, width), -1)
        return RowRouting((None,) * n, owners, like.terms.new_zeros(n))

    def join(self, other: RowRouting) -> RowRouting:
        """These rows followed by the other's; both spread to one width before."""
        names = dict.fromkeys([*self.extras, *other.extras])
        extras = {name: _joined(self, other, name) for name in names}
        return RowRouting(
            self.routers + other.routers,
            torch.cat([self.owners, other.owners]),
            torch.cat([self.terms, other.terms]),
            extras,
            self.query or other.query,
        )

    def _with(self, routers: tuple[TokenRouter | None, ...]) -> RowRouting:
        return RowRouting(routers, self.owners, self.terms, self.extras, self.query)

    def _trimmed(self, width: int) -> RowRouting:
        if width >= self.owners.shape[1]:
            return self
        extras = {k: t[:, :width] if k in PER_UNIT else t for k, t in self.extras.items()}
        return RowRouting(self.routers, self.owners[:, :width], self.terms, extras, self.query)

    def _weights(
        self,
        router: TokenRouter | None,
        x: Tensor,
        z: Tensor,
        B: Tensor,
        rows: Tensor | None,
        watch: Watch | None,
    ) -> Tensor:
        assert router is not None
        rule = RULES.get(router.rule)

        def chosen(tensor: Tensor) -> Tensor:
            return tensor if rows is None or len(tensor) == 1 else tensor.index_select(0, rows)

        owners, terms = chosen(self.owners), chosen(self.terms)
        most = int(terms.max())
        member = one_hot(owners + 1, most + 1)[..., 1:].float()  # (n, R, E)
        slots = torch.arange(most, device=owners.device)
        seen = Seen(
            x.float(),
            z.float(),
            B.float(),
            member,
            (slots < terms[:, None])[:, None],
            {name: _cut(chosen(self.extras[name]), name, most) for name in rule.needs
             if name != "query"},
            self.query,
        )  # fmt: skip
        weights = rule.weigh(seen, **dict(router.params))
        if watch is not None:
            watch(seen, weights)
        return weights


def padded_to(tensor: Tensor, long: int, dim: int, value: float = 0.0) -> Tensor:
    """`value` added at the end of `dim` (from the left) until it is `long`."""
    short = long - tensor.shape[dim]
    if short <= 0:
        return tensor
    behind = tensor.ndim - 1 - dim
    return pad(tensor, [0, 0] * behind + [0, short], value=value)


def _cut(tensor: Tensor, name: str, most: int) -> Tensor:
    return tensor if name in PER_UNIT else tensor[:, :most]


def _stacked(values: Sequence[Tensor | None], name: str, width: int) -> Tensor:
    known = [value for value in values if value is not None]
    long = width if name in PER_UNIT else max(len(value) for value in known)
    whole = known[0].new_zeros(len(values), long, *known[0].shape[1:])
    for row, value in enumerate(values):
        if value is not None:
            whole[row, : len(value)] = value
    return whole


def _joined(one: RowRouting, other: RowRouting, name: str) -> Tensor:
    """An extra of two batches below each other; zeros for the one that lacks it."""
    left, right = one.extras.get(name), other.extras.get(name)
    like = left if left is not None else right
    assert like is not None
    n, m = len(one.routers), len(other.routers)
    left = like.new_zeros(n, *like.shape[1:]) if left is None else left
    right = like.new_zeros(m, *like.shape[1:]) if right is None else right
    long = max(left.shape[1], right.shape[1])
    return torch.cat([padded_to(left, long, 1), padded_to(right, long, 1)])
