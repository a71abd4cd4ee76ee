"""Refusals that the closed forms share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lora_studio.errors import InvalidAdapter

Tensors = Mapping[str, np.ndarray]
MAX_CELLS = 1 << 26
"""Numbers in any one array that is made of a file's tensors; half a GiB."""


def need(path: str, found: Tensors, *roles: str) -> list[np.ndarray]:
    """The tensors of these roles in float64; raises InvalidAdapter if one is missing, or if there
    are others."""
    missing = [role for role in roles if role not in found]
    strange = sorted(found.keys() - set(roles))
    if missing or strange:
        what = f"lacks {', '.join(missing)}" if missing else f"also has {', '.join(strange)}"
        raise InvalidAdapter(f"'{path}' {what}; the file is incomplete or of an unknown version.")
    return [found[role].astype(np.float64) for role in roles]


def fit(path: str, cells: int) -> None:
    """Raises InvalidAdapter if an array of so many numbers is too large to make."""
    if cells > MAX_CELLS:
        raise InvalidAdapter(
            f"The update of '{path}' needs {cells >> 20} million numbers on the way to its "
            f"factors; at most {MAX_CELLS >> 20} million are allowed. Convert the adapter with "
            "peft.convert_to_lora at the rank you want.",
            "caps",
        )


def agree(path: str, fits: bool, *tensors: np.ndarray) -> None:
    """Raises InvalidAdapter with the shapes unless they fit together."""
    if not fits:
        shapes = ", ".join(str(tensor.shape) for tensor in tensors)
        raise InvalidAdapter(f"The tensors of '{path}' have shapes {shapes}, which do not agree.")
