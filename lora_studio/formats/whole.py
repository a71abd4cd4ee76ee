"""Whole updates, not in factors: LyCORIS's full method and the `.diff` of LoCon files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.low_rank import Short, shorten

ROLES = ("diff", "diff_b")


def convert(path: str, found: Mapping[str, np.ndarray]) -> tuple[Short, tuple[int, ...] | None]:
    """(factors of the update, (c_in, kh, kw) of a convolution).

    Raises:
        InvalidAdapter: it changes a bias or a norm layer, also has factors, or cannot be shortened.
    """
    others = found.keys() - {*ROLES, "alpha"}
    if others:
        raise InvalidAdapter(
            f"The file holds a whole update of '{path}' and {', '.join(sorted(others))} beside it. "
            "Which of them counts cannot be told; save one."
        )
    if "diff_b" in found and np.any(found["diff_b"]):
        raise InvalidAdapter(
            f"The file also changes the bias of '{path}' (diff_b), which no LoRA can. Train "
            "without biases, or extract a LoRA of the weights alone."
        )
    whole = found.get("diff")
    if whole is None or whole.ndim not in (2, 4):
        what = "none" if whole is None else f"of shape {whole.shape}"
        raise InvalidAdapter(
            f"The whole update of '{path}' is {what}; only those of linear layers and "
            "convolutions can be read. Norm layers have no factors: train without them."
        )
    kernel = tuple(whole.shape[1:]) if whole.ndim == 4 else None
    return shorten(path, whole.reshape(len(whole), -1)), kernel
