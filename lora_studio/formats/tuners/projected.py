"""VeRA and RandLoRA: random projections that all layers share, scaled by small trained vectors."""

from __future__ import annotations

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.converters import draws
from lora_studio.formats.low_rank import Pair, Short, shorten
from lora_studio.formats.setting import Setting
from lora_studio.formats.tuners.checks import Tensors, agree, fit, need


def vera(path: str, found: Tensors, setting: Setting) -> Short:
    """diag(lambda_b) B diag(lambda_d) A with the first rows of B and columns of A (2310.11454)."""
    outer, inner = need(path, found, "vera_lambda_b", "vera_lambda_d")
    agree(path, outer.ndim == inner.ndim == 1, outer, inner)
    d_out, rank = len(outer), len(inner)
    size = setting.size(path, d_out)
    a, b = setting.shared.get("vera_A"), setting.shared.get("vera_B")
    if a is None or b is None:
        key = int(setting.number("projection_prng_key"))
        d = setting.widest()
        fit(path, rank * max(d))
        a, b = draws.vera(key, rank, *d)
    fits = a.ndim == b.ndim == 2 and len(a) == b.shape[1] == rank
    agree(path, fits and size[0] == d_out <= len(b) and size[1] <= a.shape[1], outer, inner, a, b)
    return Short(Pair(outer[:, None] * b[:d_out], inner[:, None] * a[:, : size[1]]))


def randlora(path: str, found: Tensors, setting: Setting) -> Short:
    """Random bases, scaled and summed, times alpha / r (2502.00987); of full rank by design.

    B is (larger side, n, r), A scaled is (r, n, smaller side), and the sum runs over both middle
    pairs in the order in which each lies in memory, as PEFT has it. The update is that, or its
    transpose where the outputs are the smaller side.
    """
    own = {role: t for role, t in found.items() if role not in ("randlora_A", "randlora_B")}
    strengths, gains = need(path, own, "randlora_lambda", "randlora_gamma")
    agree(path, strengths.ndim == gains.ndim == 2, strengths, gains)
    rank, bases = strengths.shape
    size = setting.size(path)
    small, large = min(size), max(size)
    a = found.get("randlora_A", setting.shared.get("randlora_A"))
    b = found.get("randlora_B", setting.shared.get("randlora_B"))
    if a is None or b is None:
        a, b = _draw_randlora(path, setting, rank)
    fits = a.ndim == b.ndim == 3 and a.shape[:2] == (rank, 1) and gains.shape == (bases, small)
    fits = (
        fits
        and bases == -(-small // rank)
        and len(b) >= large
        and b.shape[1] >= bases
        and b.shape[2] == rank
    )
    agree(path, fits and a.shape[2] >= small, strengths, gains, a, b)
    fit(path, bases * rank * large)
    inner = strengths[:, :, None] * a[:, :, :small] * gains[None]  # (r, n, small)
    left = b[:large, :bases].reshape(large, -1).astype(np.float64)  # (large, n r)
    right = inner.reshape(-1, small)  # (r n, small)
    scale = setting.number("randlora_alpha") / rank
    pair = Pair(left, scale * right) if small == size[1] else Pair(scale * right.T, left.T)
    return shorten(path, pair)


def _draw_randlora(path: str, setting: Setting, rank: int) -> tuple[np.ndarray, np.ndarray]:
    key = int(setting.number("projection_prng_key"))
    d_out, d_in = setting.widest()
    fit(path, d_out * d_in)
    agree(path, rank <= min(d_out, d_in))
    if setting.flag("very_sparse"):
        return draws.randlora(key, rank, d_out, d_in, float(np.sqrt(min(d_out, d_in))))
    if setting.flag("sparse"):
        return draws.randlora(key, rank, d_out, d_in, 3.0)
    raise InvalidAdapter(
        "This RandLoRA file leaves its projections out, and PEFT draws them in a precision that "
        "depends on the machine, so that they cannot be drawn anew exactly. Save the adapter with "
        "save_projection=True."
    )
