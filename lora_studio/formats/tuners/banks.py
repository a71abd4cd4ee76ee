"""Factors from one bank for all layers: VB-LoRA mixes its vectors, Uni-LoRA places its values."""

from __future__ import annotations

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.low_rank import Pair, Short
from lora_studio.formats.setting import Setting
from lora_studio.formats.tuners.checks import Tensors, agree, fit, need


def vblora(path: str, found: Tensors, setting: Setting) -> Short:
    """B A, their stretches sums of the top k vectors weighted by softmax (2405.15179)."""
    bank = setting.shared.get("vblora_vector_bank")
    if bank is None:
        raise InvalidAdapter("The file holds no vblora_vector_bank, of which all layers are made.")
    agree(path, bank.ndim == 2, bank)
    if any(role.endswith("_topk_weights") for role in found):
        names = [f"vblora_logits_{side}_topk_{what}" for side in "AB" for what in _SAVED]
        indices_a, weights_a, indices_b, weights_b = need(path, found, *names)
        a = _mix(path, bank, indices_a, _last_weight(weights_a))
        b = _mix(path, bank, indices_b, _last_weight(weights_b))
    else:
        logits_a, logits_b = need(path, found, "vblora_logits_A", "vblora_logits_B")
        agree(path, logits_a.ndim == logits_b.ndim == 3, logits_a, logits_b)
        k = int(setting.number("topk"))
        agree(path, 0 < k <= len(bank), logits_a, bank)
        a, b = (_mix(path, bank, *_top(logits, k)) for logits in (logits_a, logits_b))
    # a (r, stretches, length), b (stretches, r, length)
    factor_a = a.reshape(len(a), -1)  # (r, d_in)
    factor_b = b.transpose(0, 2, 1).reshape(-1, b.shape[1])  # (d_out, r)
    agree(path, len(factor_a) == factor_b.shape[1], factor_a, factor_b)
    return Short(Pair(factor_b, factor_a))


def unilora(path: str, found: Tensors, setting: Setting) -> Short:
    """B A with A = theta[indices_A] scales_A and B = theta[indices_B] scales_B (2506.00799).

    PEFT leaves indices and scales out of the file unless `save_indices` was set.
    """
    theta = setting.shared.get("unilora_theta_d")
    if theta is None:
        raise InvalidAdapter("The file holds no unilora_theta_d, of which all layers are made.")
    agree(path, theta.ndim == 1, theta)
    names = [f"unilora_{what}_{side}" for side in "AB" for what in ("indices", "scales")]
    indices_a, scales_a, indices_b, scales_b = need(path, found, *names)
    a, b = (
        _placed(path, theta, indices, scales)
        for indices, scales in ((indices_a, scales_a), (indices_b, scales_b))
    )
    agree(path, len(a) == b.shape[1], a, b)
    return Short(Pair(b, a))


def _placed(path: str, theta: np.ndarray, indices: np.ndarray, scales: np.ndarray) -> np.ndarray:
    whole = indices.astype(np.int64)
    inside = whole.ndim == 2 and whole.shape == scales.shape and bool((whole == indices).all())
    inside = inside and bool(((whole >= 0) & (whole < len(theta))).all())
    agree(path, inside, indices, scales, theta)
    return theta[whole] * scales


_SAVED = ("indices", "weights")


def _top(logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices, softmax weights) of the k largest along the last axis."""
    indices = np.argsort(-logits, axis=-1, kind="stable")[..., :k]
    chosen = np.take_along_axis(logits, indices, axis=-1)
    powers = np.exp(chosen - chosen.max(axis=-1, keepdims=True))
    return indices, powers / powers.sum(axis=-1, keepdims=True)


def _last_weight(weights: np.ndarray) -> np.ndarray:
    """The saved weights with the one left out, since they sum to 1."""
    return np.concatenate([weights, 1 - weights.sum(axis=-1, keepdims=True)], axis=-1)


def _mix(path: str, bank: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    whole = indices.astype(np.int64)
    inside = whole.shape == weights.shape and whole.ndim == 3
    inside = inside and bool(np.all((whole >= 0) & (whole < len(bank)) & (whole == indices)))
    agree(path, inside, indices, weights, bank)
    fit(path, whole.shape[0] * whole.shape[1] * bank.shape[1])
    mixed = np.zeros((*whole.shape[:2], bank.shape[1]))
    for n in range(whole.shape[2]):
        mixed += weights[:, :, n, None] * bank[whole[:, :, n]]
    return mixed
