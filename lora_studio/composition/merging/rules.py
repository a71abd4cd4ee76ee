"""What may be done with updates once they stand in common coordinates: each rule has one home."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_studio.composition.merging.budget import NOTHING, Spectrum
from lora_studio.composition.merging.combine import elect
from lora_studio.composition.merging.core_space import Core, polar
from lora_studio.composition.merging.sparsify import keep_largest


def ties(coordinates: Sequence[np.ndarray], density: float) -> np.ndarray:
    """TIES on the entries of coordinates that have the weights in them."""
    kept = [keep_largest(x.copy(), density) for x in coordinates]
    return elect(kept, [1.0] * len(kept))


def tsv(core: Core, each: Sequence[int]) -> Spectrum:
    """TSV-M: the first `each[t]` singular triplets of every update, decorrelated.

    U = polar([U_1 ... U_T]), V = polar([V_1 ... V_T]), U diag(sigma_1 ... sigma_T) V^T.
    """
    left, sigma, right = [], [], []
    for matrix, most in zip(core.cores, each, strict=True):
        x, s, yt = np.linalg.svd(matrix, full_matrices=False)
        count = min(max(most, 1), int((s > NOTHING * s[0]).sum()) or 1)
        left.append(x[:, :count])
        sigma.append(s[:count])
        right.append(yt[:count].T)
    u, v = polar(np.concatenate(left, axis=1)), polar(np.concatenate(right, axis=1))
    return core.spectrum((u * np.concatenate(sigma)) @ v.T)
