"""The low-rank factors of a denoiser's batch: rows of one plan lie side by side and share one set
of factors, so nothing is copied per row, and ranks and kinds of layer may differ at will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

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
    """

    groups: tuple[tuple[int, int, Mapping[str, Update]], ...]
    rows: int

    def add(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> Tensor | None:
        """Adds each group's update to its rows of `out`, in place."""
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


def _add(piece: Update, module: nn.Module, x: Tensor, out: Tensor) -> None:
    """out + gain * (out - bias) + B A x, or what a gate lets through of several, in place."""
    if isinstance(piece, GatedPiece):
        _add_gated(piece, module, x, out)
        return
    x = x.to(piece.A.dtype)
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        down = piece.A.view(len(piece.A), -1, height, width)  # (r, c_in, kh, kw)
        padding: Any = module.padding
        low = conv2d(x, down, None, module.stride, padding, module.dilation)  # (n, r, h', w')
        if piece.gain is not None:
            out += _regain(piece.gain[:, None, None], module.bias, out)
        flat, up = low.flatten(2), piece.B.expand(len(low), -1, -1)  # (n, r, h'w'), (n, d_out, r)
        if out.is_contiguous() and out.dtype == flat.dtype:
            out.flatten(2).baddbmm_(up, flat)
        else:
            out += torch.bmm(up, flat).view(out.shape).to(out.dtype)
        return
    low = linear(x, piece.A)  # (..., r)
    if piece.gain is not None:
        bias = getattr(module, "bias", None)
        out += _regain(piece.gain, bias, out)
    if out.is_contiguous() and out.dtype == low.dtype:
        out.view(-1, out.shape[-1]).addmm_(low.flatten(0, -2), piece.B.mT)
    else:
        out += linear(low, piece.B).to(out.dtype)


def _add_gated(gated: GatedPiece, module: nn.Module, x: Tensor, out: Tensor) -> None:
    """out + sum_i w_out sigmoid(LN(out) w_base + LN(l_i) w_lora + LN(out) LN(l_i) w_cross + bias)
    l_i, in place."""
    conv = isinstance(module, nn.Conv2d)
    base, cross, lora, bias, scale = (
        v[:, None, None] if conv else v
        for v in (gated.base, gated.cross, gated.lora, gated.bias, gated.out)
    )
    axis = 1 if conv else -1
    plain = _normed(out, axis)
    total = torch.zeros_like(out)
    for piece in gated.pieces:
        update = out.clone()
        _add(piece, module, x, update)
        update = update - out
        own = _normed(update, axis)
        passed = (plain * base + own * lora + plain * own * cross + bias).sigmoid()
        total = total + (scale * passed).to(out.dtype) * update
    out += total


def _normed(values: Tensor, axis: int) -> Tensor:
    """Mean 0 and variance 1 along an axis, without weights of its own."""
    centred = values - values.mean(axis, keepdim=True)
    return centred * (centred.square().mean(axis, keepdim=True) + 1e-5).rsqrt()


def _regain(gain: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """gain * (out - bias), in the type of `out`."""
    plain = out if bias is None else out - bias.view(gain.shape)
    return (gain * plain).to(out.dtype)
