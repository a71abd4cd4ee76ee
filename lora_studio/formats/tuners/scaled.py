"""AdaLoRA and DeLoRA: a LoRA with a number of its own on every rank."""

from __future__ import annotations

import numpy as np

from lora_studio.formats.low_rank import Pair, Short
from lora_studio.formats.setting import Setting
from lora_studio.formats.tuners.checks import Tensors, agree, need

_LEAST = 1e-4
_EPSILON = 1e-5


def adalora(path: str, found: Tensors, setting: Setting) -> Short:
    """B diag(E) A * alpha / (r + 1e-5) (2303.10512); alpha 0 or less means r."""
    own = {role: tensor for role, tensor in found.items() if role != "ranknum"}
    a, b, e = need(path, own, "A", "B", "lora_E")
    rank = len(e)
    agree(path, a.ndim == b.ndim == 2 and len(a) == b.shape[1] == rank == e.size, a, b, e)
    alpha = setting.number("lora_alpha")
    scale = (alpha if alpha > 0 else rank) / (rank + _EPSILON)
    return Short(Pair(b, e.reshape(-1, 1) * a * scale))


def delora(path: str, found: Tensors, setting: Setting) -> Short:
    """B diag(lambda / (r |a_i| |b_i|)) A, each input times the norm of the base weight's column,
    which the file holds (2503.18225)."""
    a, b, strength, norms = need(
        path, found, "delora_A", "delora_B", "delora_lambda", "delora_w_norm"
    )
    fits = a.ndim == b.ndim == 2 and len(a) == b.shape[1] and norms.shape == a.shape[1:]
    agree(path, fits and strength.size == 1, a, b, strength, norms)
    lengths = np.linalg.norm(a, axis=1).clip(_LEAST) * np.linalg.norm(b, axis=0).clip(_LEAST)
    scale = float(strength.reshape(())) / len(a) / lengths  # (r,)
    return Short(Pair(b, scale[:, None] * a * norms))
