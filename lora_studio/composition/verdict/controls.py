"""What a merge must be better than: one adapter alone, and random numbers of the same size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition.verdict.joint import Joint

SEED = 0
"""Of the random adapter, wherever none is named."""


def random_adapter(like: Adapter, seed: int = SEED) -> Adapter:
    """Gaussian factors with the modules, ranks and norms of `like`: only what it has learned is
    missing."""
    factors: dict[str, LoraFactors] = {}
    for place, (name, module) in enumerate(like.modules()):
        rng = np.random.default_rng([seed, place])
        a = rng.standard_normal(module.A.shape, np.float32)
        b = rng.standard_normal(module.B.shape, np.float32)
        drawn = replace(module, A=a, B=b, scaling=1.0, magnitude=None)
        norm = drawn.norm()
        factors[name] = drawn.scaled(module.norm() / norm if norm else 0.0).folded()
    title = f"Random adapter (seed {seed})"
    return Adapter(factors, AdapterCard(title=title, base_model=like.card.base_model))


def expected(joint: Joint, like: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a random adapter like the one at this place: the standard deviation of its cosine to each
    source (the mean is 0), and the mean share of each source's energy within its spaces."""
    spread, within = np.zeros(joint.size), np.zeros(joint.size)
    for name, inner in joint.inner.items():
        shape = joint.shape(name)
        rank = next((m.rank for m in joint.members[name] if m.owner == like), 0)
        squares = np.diag(inner)
        spread += inner[like, like] * squares / (shape.d_in * shape.d_out)
        within += squares * min(rank / shape.d_in, 1.0) * min(rank / shape.d_out, 1.0)
    squares = joint.norms**2
    safe = np.where(squares > 0, squares, 1.0)
    own = safe[like]
    return np.sqrt(spread / (own * safe)), within / safe


def best_single(joint: Joint, signs: np.ndarray) -> int:
    """Place of the source that is most like all of them, at weight 1."""
    if joint.size == 1:
        return 0
    means = signs @ joint.cosines / joint.size
    return int(np.argmax(np.round(means, 9)))
