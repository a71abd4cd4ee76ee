"""What LEGO keeps under every combination of its options."""

from itertools import product

import numpy as np
import pytest

from lora_studio.composition import compose
from lora_studio.errors import InvalidRequest
from tests.conftest import build_adapter
from tests.deltas import deltas, distance

OPTIONS = {
    "basis": ("raw", "svd"),
    "gauge": ("raw", "balanced"),
    "centroid": ("mean", "rank_one"),
    "allot": ("even", "elbow", "global"),
    "copies": (1.0, 0.8),
    "apart": (False, True),
}
ALL = [dict(zip(OPTIONS, values, strict=True)) for values in product(*OPTIONS.values())]
FULL = [o for o in ALL if o["allot"] != "elbow"]


def name_of(options):
    return " ".join(str(value) for value in options.values())


@pytest.mark.parametrize("options", FULL, ids=name_of)
def test_one_adapter_at_weight_one_is_the_identity(options):
    adapter = build_adapter(1, scaling=1.7)
    result = compose("lego", [adapter], **options).adapter
    assert distance(deltas(result), deltas(adapter)) < 1e-5
    turned = compose("lego", [adapter], [-1.0], **options).adapter
    assert distance(deltas(turned), {n: -d for n, d in deltas(adapter).items()}) < 1e-5


@pytest.mark.parametrize(
    "options", [o for o in ALL if not o["apart"] or o["allot"] == "even"], ids=name_of
)
def test_mixed_ranks_and_missing_modules_in_any_order(options):
    adapters = [build_adapter(1, rank=2, layers=3, scaling=0.5), build_adapter(2, rank=4)]
    weights = [1.0, -0.5]
    plan = compose("lego", adapters, weights, **options)
    again = compose("lego", adapters[::-1], weights[::-1], **options)
    assert distance(deltas(plan.adapter), deltas(again.adapter)) < 1e-4
    assert plan.notes == again.notes
    assert bool(plan.notes) == (options["allot"] != "even")
    assert all(np.isfinite(delta).all() for delta in deltas(plan.adapter).values())


def test_units_that_cannot_lie_apart_are_refused_with_the_rank_they_need():
    with pytest.raises(InvalidRequest, match="Set rank to 4 or more"):
        compose("lego", [build_adapter(1), build_adapter(2)], rank=3, apart=True)


def test_a_global_budget_is_kept():
    adapters = [build_adapter(i, scaling=1.0 + i) for i in range(3)]
    plan = compose("lego", adapters, rank=5, allot="global")
    assert sum(plan.adapter.ranks.values()) == 5 * len(plan.adapter.ranks)
    assert "clusters in all" in plan.notes[0]
