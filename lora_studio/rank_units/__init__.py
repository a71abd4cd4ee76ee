"""Rank-one units of adapters: pooling, clustering and laying them out. Always within one module."""

from lora_studio.rank_units.cluster import Clustering, cluster
from lora_studio.rank_units.layout import layout
from lora_studio.rank_units.similarity import shared_seed_score
from lora_studio.rank_units.unit import Basis, Gauge, UnitPool, pool_units

__all__ = [
    "Basis",
    "Clustering",
    "Gauge",
    "UnitPool",
    "cluster",
    "layout",
    "pool_units",
    "shared_seed_score",
]
