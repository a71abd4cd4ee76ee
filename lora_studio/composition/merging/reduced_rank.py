"""Ridge regression whose coefficients have a low rank: the linear algebra of `refit`.

With rows z of inputs and y of wanted outputs, and a prior P:
    M = argmin over rank r of sum |M z - y|^2 + e |M - P|^2,
solved in closed form (reduced-rank regression, Izenman 1975): M = P_r[Q] W with W the inverse root
of Z^T Z + e I, Q = (Y^T Z + e P) W, and P_r the truncated SVD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Tensor = Any
"""A torch tensor; torch is loaded only where one is made."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A (r, d_in) and B (d_out, r) of the solution, and `shares` (sources, r): how much of each
    unit's strength comes from each source's rows (with its part of the prior); sums to 1 over the
    sources, and may be negative where a source pulls the other way."""

    A: Tensor
    B: Tensor
    shares: Tensor


class Whitening:
    """Inputs that several modules share, decomposed once.

    Where there are fewer rows than columns everything stays in the span of the rows (the dual form)
    and no (d_in, d_in) matrix is made.

    Args:
        rows: (n, d_in) inputs, each times the root of its weight.
        ridge: e over the mean of the diagonal of Z^T Z; above 0.
        dual: None chooses by size.
    """

    def __init__(self, rows: Tensor, ridge: float, *, dual: bool | None = None) -> None:
        import torch

        self.rows = rows.double()
        n, self.width = self.rows.shape
        self.dual = n < self.width if dual is None else dual
        self.e = max(ridge * float(self.rows.square().sum()) / self.width, 1e-12)
        if self.dual:
            values, left = torch.linalg.eigh(self.rows @ self.rows.mT)  # (n,), (n, n)
            alive = values > values[-1].clamp(min=0) * 1e-12
            self.values, left = values[alive], left[:, alive]
            self.basis = self.rows.mT @ (left / self.values.sqrt())  # (d_in, m)
        else:
            values, self.basis = torch.linalg.eigh(self.rows.mT @ self.rows)
            self.values = values.clamp(min=0)

    def whiten(self, vectors: Tensor) -> Tensor:
        """Rows (k, d_in) times (Z^T Z + e I)^(-1/2)."""
        inside = vectors @ self.basis  # (k, m)
        scaled = (inside * (self.values + self.e).rsqrt()) @ self.basis.mT
        if not self.dual:
            return scaled
        return scaled + (vectors - inside @ self.basis.mT) * self.e**-0.5

    def solve(
        self,
        wanted: Sequence[Tensor],
        places: Sequence[slice],
        priors: Sequence[tuple[Tensor, Tensor] | None],
        rank: int,
    ) -> Fitted:
        """The solution for one module.

        Args:
            wanted: of each source (n_i, d_out), times the root of the weights.
            places: of each source, which rows are its own.
            priors: of each source, (A, B) of its part of the prior.
            rank: of the result; less where there is less to fit.
        """
        import torch

        numerators = list[tuple[Tensor, Tensor]]()  # of each source, (d_out, k) and (k, d_in)
        for y, place, prior in zip(wanted, places, priors, strict=True):
            mine = [_narrow(y.double().mT, self.rows[place])]
            if prior is not None:
                mine.append((prior[1].double() * self.e, prior[0].double()))
            tall, wide = torch.cat([t for t, _ in mine], 1), torch.cat([w for _, w in mine])
            numerators.append(_narrow(tall, wide))
        ends = np.cumsum([0, *(len(wide) for _, wide in numerators)]).tolist()
        tall = torch.cat([t for t, _ in numerators], 1)
        wide = self.whiten(torch.cat([w for _, w in numerators]))  # Q = (d_out, N) @ (N, d_in)
        u, s, v = _svd_of_product(tall, wide, rank)  # (d_out, q), (q,), (d_in, q)
        mine = (u.mT @ tall) * (wide @ v).mT  # (q, N)
        parts = [mine[:, a:b].sum(1) for a, b in pairwise(ends)]
        return Fitted(self.whiten(v.mT), u * s, torch.stack(parts) / s)


def _narrow(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of the same product that are no wider inside than its smaller side."""
    n, d_out, d_in = left.shape[1], left.shape[0], right.shape[1]
    if n <= min(d_out, d_in):
        return left, right
    import torch

    eye = torch.eye(min(d_out, d_in), dtype=left.dtype, device=left.device)
    return (eye, left @ right) if d_out <= d_in else (left @ right, eye)


def _svd_of_product(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `rank` strongest singular triplets of left @ right, without zero ones."""
    import torch

    n, d_out, d_in = left.shape[1], left.shape[0], right.shape[1]
    if n < min(d_out, d_in):  # the core is smaller than the product
        q_l, r_l = torch.linalg.qr(left)
        q_r, r_r = torch.linalg.qr(right.mT)
        u, s, v = torch.linalg.svd(r_l @ r_r.mT, full_matrices=False)
        u, v = q_l @ u, q_r @ v.mT
    else:
        u, s, v = torch.linalg.svd(left @ right, full_matrices=False)
        v = v.mT
    keep = min(rank, int((s > s[0] * 1e-10).sum()) if len(s) else 0)
    return u[:, :keep], s[:keep], v[:, :keep]
