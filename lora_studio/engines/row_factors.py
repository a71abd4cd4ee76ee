"""The low-rank factors of a batch: per module one padded stack, one slice per row, gathered when
the batch changes and not at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from lora_studio.composition.token_router import Seen
from lora_studio.engines.row_routing import PlanRouting, RowRouting, Watch, padded_to
from lora_studio.engines.rows import RowPlan
from lora_studio.errors import LoraStudioError

Pair = tuple[Tensor, Tensor]
"""A (r, d_in) and B (d_out, r) of one module."""


def combine(terms: Sequence[tuple[Pair, float]], fuse: bool) -> Pair:
    """One pair for a weighted set: ranks side by side, or, if `fuse`, A and B averaged apart
    with the missing ranks as zeros. Sums run in float32."""
    dtype = terms[0][0][0].dtype
    if not fuse:
        a = torch.cat([pair[0] for pair, _ in terms], dim=0)  # (sum r, d_in)
        b = torch.cat([pair[1] * weight for pair, weight in terms], dim=1)  # (d_out, sum r)
        return a, b
    rank = max(pair[0].shape[0] for pair, _ in terms)
    a = sum(padded_to(p[0].float(), rank, 0) * w for p, w in terms)  # (rank, d_in)
    b = sum(padded_to(p[1].float(), rank, 1) * w for p, w in terms)  # (d_out, rank)
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    return a.to(dtype), b.to(dtype)


@dataclass(frozen=True, eq=False)
class ModuleRows:
    """Factors of one module for n rows.

    Args:
        A: (n, R, d_in), or (1, R, d_in) if every row has the same plan.
        B: (n, d_out, R), or (1, d_out, R).
        ranks: rank of each row; the rest up to R is zero.
        routing: what weighs the units per token, if any row has a token router.
    """

    A: Tensor
    B: Tensor
    ranks: tuple[int, ...]
    routing: RowRouting | None = None

    @classmethod
    def stack(
        cls,
        pieces: Sequence[Pair | None],
        index: Sequence[int],
        routings: Sequence[PlanRouting | None] = (),
    ) -> ModuleRows:
        """Row i gets pieces[index[i]] and routings[index[i]]; None is no update. At least one piece
        is a pair."""
        ranks = [0 if piece is None else piece[0].shape[0] for piece in pieces]
        model = next(piece for piece in pieces if piece is not None)
        width, d_in, d_out = max(ranks), model[0].shape[1], model[1].shape[0]
        a = model[0].new_zeros(len(pieces), width, d_in)
        b = model[1].new_zeros(len(pieces), d_out, width)
        for slot, piece in enumerate(pieces):
            if piece is not None:
                a[slot, : ranks[slot]] = piece[0]
                b[slot, :, : ranks[slot]] = piece[1]
        if len(pieces) > 1 and list(index) != list(range(len(pieces))):
            order = torch.tensor(index, device=a.device)
            a, b = a.index_select(0, order), b.index_select(0, order)
        routing = RowRouting.stack(routings, index, width)
        return cls(a, b, tuple(ranks[i] for i in index), routing)

    @property
    def shared(self) -> bool:
        """All rows use the one pair that is stored."""
        return self.A.shape[0] == 1

    def add_to(self, x: Tensor, out: Tensor, watch: Watch | None = None) -> Tensor:
        """out (n, T, d_out) + B A x for x (n, T, d_in), each row with its own factors."""
        x = x.to(self.A.dtype)
        if self.shared:
            low = linear(x, self.A[0])  # (n, T, R)
            return out + linear(self._passed(x, low, watch), self.B[0]).to(out.dtype)
        low = self._passed(x, torch.bmm(x, self.A.mT), watch)  # (n, T, R)
        if out.dtype == self.B.dtype:
            return torch.baddbmm(out, low, self.B.mT)
        return out + torch.bmm(low, self.B.mT).to(out.dtype)

    def _passed(self, x: Tensor, low: Tensor, watch: Watch | None) -> Tensor:
        return low if self.routing is None else self.routing.passed(x, low, self.B, watch)

    def select(self, keep: Sequence[int]) -> ModuleRows | None:
        """The rows `keep`, ranks trimmed to the widest left; None if no row has a term."""
        ranks = tuple(self.ranks[i] for i in keep)
        width = max(ranks, default=0)
        if width == 0:
            return None
        a, b = self.A, self.B
        if not self.shared:
            order = torch.tensor(keep, device=a.device)
            a, b = a.index_select(0, order), b.index_select(0, order)
        if width < a.shape[1]:
            a, b = a[:, :width].contiguous(), b[:, :, :width].contiguous()
        return ModuleRows(a, b, ranks, self.routing and self.routing.rows(keep, width))

    def _spread(self, before: int, after: int, width: int) -> Pair:
        """A and B with one slice per row, `before` and `after` empty rows and ranks to `width`."""
        n = len(self.ranks)
        a, b = self.A.expand(n, -1, -1), self.B.expand(n, -1, -1)
        short = width - a.shape[1]
        return pad(a, [0, 0, 0, short, before, after]), pad(b, [0, short, 0, 0, before, after])


@dataclass(frozen=True, eq=False)
class RowFactors:
    """Factors of every touched module for the rows of a batch, in the order of `plans`.

    Args:
        watch: told of each module, what its token router saw and how it decided.
    """

    plans: tuple[RowPlan, ...]
    modules: Mapping[str, ModuleRows]
    watch: Callable[[str, Seen, Tensor], None] | None = None

    def add(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> Tensor | None:
        """out + each row's update of this module; None where no row has one."""
        rows = self.modules.get(name)
        if rows is None:
            return None
        if not rows.shared and (x.ndim != 3 or x.shape[0] != len(rows.ranks)):
            raise LoraStudioError(
                f"Module '{name}' mixes the rows of a batch (input {tuple(x.shape)}), so rows "
                "with different adapters cannot run together. Run them one at a time."
            )
        return rows.add_to(x, out, partial(self.watch, name) if self.watch else None)

    def select(self, keep: Sequence[int]) -> RowFactors:
        """Only the rows `keep`, in that order."""
        kept = {name: rows.select(keep) for name, rows in self.modules.items()}
        modules = {name: rows for name, rows in kept.items() if rows is not None}
        return RowFactors(tuple(self.plans[i] for i in keep), modules)

    def join(self, other: RowFactors) -> RowFactors:
        """These rows followed by the other's."""
        if not self.plans or not other.plans:
            return other if not self.plans else self
        plans = self.plans + other.plans
        one_plan = len(set(plans)) == 1
        modules: dict[str, ModuleRows] = {}
        for name in dict.fromkeys([*self.modules, *other.modules]):
            mine, theirs = self.modules.get(name), other.modules.get(name)
            if one_plan and mine and theirs:
                routing = mine.routing and mine.routing.repeated(len(plans))
                ranks = mine.ranks + theirs.ranks
                modules[name] = ModuleRows(mine.A[:1], mine.B[:1], ranks, routing)
            else:
                modules[name] = self._join_module(mine, theirs, other)
        return RowFactors(plans, modules)

    def _join_module(
        self, mine: ModuleRows | None, theirs: ModuleRows | None, other: RowFactors
    ) -> ModuleRows:
        n, m = len(self.plans), len(other.plans)
        width = max(rows.A.shape[1] for rows in (mine, theirs) if rows is not None)
        ranks = (mine.ranks if mine else (0,) * n) + (theirs.ranks if theirs else (0,) * m)
        if mine is None or theirs is None:
            only = mine or theirs
            assert only is not None
            before, after = (0, m) if mine else (n, 0)
            routing = _join_routing((mine, n), (theirs, m), width)
            return ModuleRows(*only._spread(before, after, width), ranks, routing)
        left, right = mine._spread(0, 0, width), theirs._spread(0, 0, width)
        a, b = torch.cat([left[0], right[0]]), torch.cat([left[1], right[1]])
        return ModuleRows(a, b, ranks, _join_routing((mine, n), (theirs, m), width))


def _join_routing(
    mine: tuple[ModuleRows | None, int], theirs: tuple[ModuleRows | None, int], width: int
) -> RowRouting | None:
    """The routers of two batches of so many rows, the second's below."""
    like = next((rows.routing for rows, _ in (mine, theirs) if rows and rows.routing), None)
    if like is None:
        return None
    left, right = (
        rows.routing.spread(width)
        if rows is not None and rows.routing is not None
        else RowRouting.blank(count, width, like)
        for rows, count in (mine, theirs)
    )
    return left.join(right)
