"""Shared makers of small adapters. Nothing here needs a network, a GPU or a trained model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors

D_IN, D_OUT = 24, 20

MakeAdapter = Callable[..., Adapter]


def build_adapter(
    seed: int = 0,
    rank: int = 4,
    layers: int = 2,
    scaling: float = 1.0,
    base: str = "tiny",
    kinds: tuple[str, ...] = ("q_proj", "v_proj"),
    **card: object,
) -> Adapter:
    """An adapter with random factors; the seed decides all of it."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    factors = {
        f"model.layers.{i}.self_attn.{kind}": LoraFactors(
            A=normal(rank, D_IN), B=normal(D_OUT, rank), scaling=scaling
        )
        for i in range(layers)
        for kind in kinds
    }
    return Adapter(factors, AdapterCard.from_dict({"base_model": base, **card}))


@pytest.fixture
def make_adapter() -> MakeAdapter:
    return build_adapter
