"""Merging those adapters that a merge still answers for, on a tiny random model."""

from dataclasses import replace

import pytest

from lora_studio.composition import Routed, compose
from lora_studio.composition.routing.merge_rest import MERGED
from lora_studio.engines.text import TextEngine
from lora_studio.evaluation.probe import EngineProbe
from tests.tiny_models import random_adapter, save_model

SAMPLES = tuple(f"sample {i}" for i in range(8))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return TextEngine(save_model("llama", tmp_path_factory.mktemp("base")), "cpu", max_rows=8)


def twin_of(adapter):
    """The same updates from other numbers."""
    factors = {n: replace(m, A=2 * m.A, B=m.B / 2) for n, m in adapter.factors.items()}
    return replace(adapter, factors=factors)


def routed(adapters, probe=None, weights=None, **params):
    plan = compose("merge_rest", adapters, weights, probe=probe, **params)
    assert isinstance(plan, Routed)
    return plan


def probe_of(engine, adapters, samples=None):
    given = samples or [SAMPLES] * len(adapters)
    return EngineProbe(
        engine, {a.id: a for a in adapters}, {a.id: s for a, s in zip(adapters, given, strict=True)}
    )


def test_who_contradicts_the_others_is_routed_to_and_the_others_are_one(engine):
    one, other = random_adapter(1, rank=4), random_adapter(5, rank=4)
    adapters = [one, other, twin_of(one)]
    plan = routed(adapters, probe_of(engine, adapters), rank=8)
    assert set(plan.stand_ins) == {one.id, adapters[2].id}
    assert plan.made[MERGED].max_rank == 4
    assert plan.made[MERGED].cosine(one) > 0.99
    assert set(plan.answerers) == {MERGED, other.id}
    assert plan.row({other.id: 0.9}).terms == ((other.id, 1.0),)
    for source in (one, adapters[2]):
        assert plan.row({source.id: 0.9}).terms == ((MERGED, 1.0),)
    assert "2 of 3 adapters were merged at rank 4" in plan.notes[0]
    assert "Rank kept: 8 of 12" in plan.notes[0]
    again = routed(adapters[::-1], probe_of(engine, adapters[::-1]), rank=8)
    assert again.made[MERGED].id == plan.made[MERGED].id


def test_no_more_rank_is_kept_than_was_asked_for_whatever_is_lost(engine):
    adapters = [random_adapter(seed, rank=rank) for seed, rank in ((1, 4), (2, 2), (3, 6), (4, 4))]
    for budget in (6, 8, 12):
        plan = routed(adapters, probe_of(engine, adapters), rank=budget, enough=1.0)
        alone = [a for a in adapters if a.id not in plan.stand_ins]
        assert len(plan.stand_ins) >= 2
        assert plan.made[MERGED].max_rank + sum(a.max_rank for a in alone) <= budget


def test_who_has_no_samples_is_not_merged_as_long_as_there_is_room(engine):
    one, silent = random_adapter(1, rank=4), random_adapter(5, rank=4)
    adapters = [one, twin_of(one), silent]
    plan = routed(adapters, probe_of(engine, adapters, [SAMPLES, SAMPLES, ()]), rank=8)
    assert silent.id not in plan.stand_ins


@pytest.mark.parametrize(
    ("given", "note"),
    [({"rank": 12}, "fit a rank of 12"), ({"rank": 8}, "needs the base model")],
)
def test_where_there_is_nothing_to_try_or_nothing_to_save_all_are_routed(given, note):
    adapters = [random_adapter(seed, rank=4) for seed in (1, 2, 3)]
    plan = routed(adapters, weights=[1.0, 0.5, 2.0], **given)
    assert note in plan.notes[0]
    assert plan.answerers == [a.id for a in adapters]
    assert plan.row({adapters[1].id: 1.0}).terms == ((adapters[1].id, 0.5),)


def test_without_any_samples_all_are_routed(engine):
    adapters = [random_adapter(seed, rank=4) for seed in (1, 2, 3)]
    plan = routed(adapters, probe_of(engine, adapters, [()] * 3), rank=8)
    assert "no sample inputs" in plan.notes[0]
    assert not plan.stand_ins


def test_what_is_tried_on_is_told_by_source(engine):
    one, other = random_adapter(1, rank=4), random_adapter(5, rank=4)
    (found,) = probe_of(engine, [one, other]).agreement([(one, 1.0)])
    assert found.of_source[one.id][0] == 1.0
    assert found.exact == pytest.approx((1.0 + found.of_source[other.id][0]) / 2)
