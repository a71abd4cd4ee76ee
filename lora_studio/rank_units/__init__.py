"""Rank-one units of adapters: pooling, clustering and laying them out. Always within one module."""

from lora_studio.rank_units.cluster import Clustering, cluster
from lora_studio.rank_units.layout import layout
from lora_studio.rank_units.ownership import joined, ownership
from lora_studio.rank_units.similarity import (
    SHARED_SEED,
    SHARED_SEED_WARNING,
    shared_seed,
    shared_seed_score,
)
from lora_studio.rank_units.unit import Basis, Gauge, UnitPool, pool_units

__all__ = [
    "SHARED_SEED",
    "SHARED_SEED_WARNING",
    "Basis",
    "Clustering",
    "Gauge",
    "UnitPool",
    "cluster",
    "joined",
    "layout",
    "ownership",
    "pool_units",
    "shared_seed",
    "shared_seed_score",
]
