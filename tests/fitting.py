"""Adapters that a merge is made for, where not any will do."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors


def fitting(name: str, adapters: list[Adapter]) -> list[Adapter]:
    """Those of some adapters that the merge called `name` takes, or ones like them that it does."""
    if name == "slerp":
        return adapters[:2]
    return [_around_one_a(a) for a in adapters] if name == "shared_factor" else adapters


def _around_one_a(adapter: Adapter) -> Adapter:
    """The adapter with the A that all have in common, as many of its rows as it has ranks."""

    def shared(module_name: str, module: LoraFactors) -> LoraFactors:
        rng = np.random.default_rng(zlib.crc32(module_name.encode()))
        return replace(module, A=rng.normal(size=(64, module.d_in)).astype("f")[: module.rank])

    return replace(adapter, factors={n: shared(n, m) for n, m in adapter.factors.items()})
