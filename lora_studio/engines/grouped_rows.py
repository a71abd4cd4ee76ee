"""The low-rank factors of a denoiser's batch: rows of one plan lie side by side and share one set
of factors, so nothing is copied per row, and ranks and kinds of layer may differ at will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm, linear

from lora_studio.errors import LoraStudioError


class Piece(NamedTuple):
    """Update of one module: out + gain * (out - bias) + B A x.

    Args:
        A: (r, d_in); of a convolution, d_in = c_in * kh * kw.
        B: (d_out, r).
        gain: (d_out,) of DoRA, m / |W + B A| - 1 per output, or None.
    """

    A: Tensor
    B: Tensor
    gain: Tensor | None = None

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self if t is not None)


class GatedPiece(NamedTuple):
    """Updates of one module, each let through as far as a gate says (`composition.gate`).

    Args:
        pieces: one per adapter, its weight included.
        base, lora, cross, bias, out: (d_out,) of the gate.
    """

    pieces: tuple[Piece, ...]
    base: Tensor
    lora: Tensor
    cross: Tensor
    bias: Tensor
    out: Tensor


class Stack(NamedTuple):
    """Updates of a module for several groups of rows: A (groups, r, d_in), B (groups, d_out, r)."""

    A: Tensor
    B: Tensor


Update = Piece | GatedPiece


def weighted(pieces: Sequence[tuple[Piece, float]]) -> Piece:
    """sum_i w_i delta_i as one piece; a single piece at weight 1 is returned as it is."""
    if len(pieces) == 1 and pieces[0][1] == 1.0:
        return pieces[0][0]
    gains = [p.gain * w for p, w in pieces if p.gain is not None]
    return Piece(
        torch.cat([p.A for p, _ in pieces], dim=0),  # (sum r, d_in)
        torch.cat([p.B * w for p, w in pieces], dim=1),  # (d_out, sum r)
        torch.stack(gains).sum(0) if gains else None,
    )


def behind(pieces: Sequence[tuple[Piece, float]], vectors: Mapping[str, Any]) -> GatedPiece:
    """The weighted pieces behind a gate's vectors of their module, arrays or tensors."""
    like = pieces[0][0].B
    given = {name: torch.as_tensor(vector).to(like) for name, vector in vectors.items()}
    return GatedPiece(tuple(weighted([one]) for one in pieces), **given)


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """Who acts on which rows of a batch.

    Args:
        groups: (first row, row behind the last, module name -> update), in the order of the rows;
            rows outside every group belong to the base model.
        rows: size of the batch.
        stacks: module name -> factors of all groups in one tensor, None where they cannot be
            stacked; kept from one pass with the same updates, in whatever rows, to the next.
    """

    groups: tuple[tuple[int, int, Mapping[str, Update]], ...]
    rows: int
    stacks: dict[str, Stack | None] = field(default_factory=dict)

    def add(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> Tensor | None:
        """Adds each group's update to its rows of `out`, in place; those of a linear layer at once
        where the groups are of one size."""
        if self._even and isinstance(module, nn.Linear) and x.shape[0] == self.rows:
            stack = self._stack(name)
            if stack and out.is_contiguous() and out.dtype == stack.A.dtype == x.dtype:
                groups = len(self.groups)
                low = x.reshape(groups, -1, x.shape[-1]) @ stack.A.mT  # (groups, n, r)
                out.view(groups, -1, out.shape[-1]).baddbmm_(low, stack.B.mT)
                return out
        for first, behind, pieces in self.groups:
            piece = pieces.get(name)
            if piece is None:
                continue
            if x.shape[0] != self.rows and behind - first == self.rows:
                _add(piece, module, x, out)
                continue
            if x.shape[0] != self.rows:
                raise LoraStudioError(
                    f"Module '{name}' mixes the rows of a batch (input {tuple(x.shape)}), so "
                    "pictures with different adapters cannot be made together. Make them one at a "
                    "time."
                )
            _add(piece, module, x[first:behind], out[first:behind])
        return out

    def _stack(self, name: str) -> Stack | None:
        if name not in self.stacks:
            self.stacks[name] = _stacked([pieces.get(name) for _, _, pieces in self.groups])
        return self.stacks[name]

    @cached_property
    def _even(self) -> bool:
        """Whether there are several groups of one size, with every row in one of them."""
        if len(self.groups) < 2:
            return False
        size = self.groups[0][1] - self.groups[0][0]
        places = [(first, behind) for first, behind, _ in self.groups]
        return places == [(at, at + size) for at in range(0, self.rows, size)]


def _stacked(pieces: Sequence[Update | None]) -> Stack | None:
    """The factors of all groups in one tensor each, zeros where ranks are smaller or a group has
    none; None for DoRA and for what is behind a gate."""
    known = [piece for piece in pieces if piece is not None]
    plain = [piece for piece in known if isinstance(piece, Piece) and piece.gain is None]
    if not plain or len(plain) < len(known):
        return None
    rank, like = max(len(piece.A) for piece in plain), plain[0]
    a = like.A.new_zeros(len(pieces), rank, like.A.shape[1])  # (groups, r, d_in)
    b = like.B.new_zeros(len(pieces), like.B.shape[0], rank)  # (groups, d_out, r)
    for i, piece in enumerate(pieces):
        if isinstance(piece, Piece):
            a[i, : len(piece.A)], b[i, :, : len(piece.A)] = piece.A, piece.B
    return Stack(a, b)


def _add(piece: Update, module: nn.Module, x: Tensor, out: Tensor) -> None:
    """out + gain * (out - bias) + B A x, or what a gate lets through of several, in place."""
    if isinstance(piece, GatedPiece):
        _add_gated(piece, module, x, out)
        return
    low = _low(piece, module, x)
    if piece.gain is not None:
        out += _regain(piece.gain, module, out)
    if not out.is_contiguous() or out.dtype != low.dtype:
        out += _raised(piece, low, out)
    elif isinstance(module, nn.Conv2d):
        up = piece.B.expand(len(low), -1, -1)  # (n, d_out, r)
        out.flatten(2).baddbmm_(up, low.flatten(2))
    else:
        out.view(-1, out.shape[-1]).addmm_(low.flatten(0, -2), piece.B.mT)


def _low(piece: Piece, module: nn.Module, x: Tensor) -> Tensor:
    """A x: (..., r), of a convolution (n, r, h', w')."""
    x = x.to(piece.A.dtype)
    if not isinstance(module, nn.Conv2d):
        return linear(x, piece.A)
    height, width = module.kernel_size
    down = piece.A.view(len(piece.A), -1, height, width)  # (r, c_in, kh, kw)
    padding: Any = module.padding
    return conv2d(x, down, None, module.stride, padding, module.dilation)


def _raised(piece: Piece, low: Tensor, out: Tensor) -> Tensor:
    """B low, in shape and type of `out`."""
    if low.ndim == 4:
        up = piece.B.expand(len(low), -1, -1)
        return torch.bmm(up, low.flatten(2)).view(out.shape).to(out.dtype)
    return linear(low, piece.B).to(out.dtype)


def _add_gated(gated: GatedPiece, module: nn.Module, x: Tensor, out: Tensor) -> None:
    """out + sum_i w_out sigmoid(LN(out) w_base + LN(l_i) w_lora + LN(out) LN(l_i) w_cross + bias)
    l_i, in place."""
    conv = isinstance(module, nn.Conv2d)
    base, lora, cross, bias, scale = (
        v[:, None, None] if conv else v
        for v in (gated.base, gated.lora, gated.cross, gated.bias, gated.out)
    )
    seen = out.clone() if torch.is_grad_enabled() else out  # gradients need it as it was
    plain = _normed(seen, conv)
    still, own = plain * base + bias, plain * cross + lora
    total = torch.zeros_like(out)
    for piece in gated.pieces:
        update = _raised(piece, _low(piece, module, x), out)
        if piece.gain is not None:
            update = update + _regain(piece.gain, module, out)
        passed = torch.addcmul(still, own, _normed(update, conv)).sigmoid()
        total = total + passed * update
    out += (scale * total).to(out.dtype)


def _normed(values: Tensor, conv: bool) -> Tensor:
    """Mean 0 and variance 1 over outputs, without weights of its own."""
    if not conv:
        return layer_norm(values, values.shape[-1:])
    variance, mean = torch.var_mean(values, 1, correction=0, keepdim=True)
    return (values - mean) * (variance + 1e-5).rsqrt()


def _regain(gain: Tensor, module: nn.Module, out: Tensor) -> Tensor:
    """gain * (out - bias), in the type of `out`."""
    if isinstance(module, nn.Conv2d):
        gain = gain[:, None, None]
    bias = getattr(module, "bias", None)
    plain = out if bias is None else out - bias.view(gain.shape)
    return (gain * plain).to(out.dtype)
