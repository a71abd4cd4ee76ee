"""Who spoke while an answer was read."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.composition.decision import Decision
from lora_studio.composition.token_router import router
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.tracing import trace
from lora_studio.errors import InvalidRequest, LoraStudioError

TERMS = (("a", 1.0), ("c", 0.5))


def test_every_token_layer_and_adapter_has_its_figure(engine):
    found = trace(engine, "abc", "xy", RowPlan(TERMS))
    assert found.tokens == tuple("abcxy")
    assert found.answer == 3
    assert found.layers == (0, 1)
    assert found.adapters == ("a", "c")
    assert (found.wrote[:, :, 0] > 0).all()
    assert set(np.unique(found.weights)) <= {0.0, 1 / 3, 2 / 3, 1.0}  # c lacks some modules
    loud = found.units[1, 2]
    assert [u.wrote for u in loud] == sorted((u.wrote for u in loud), reverse=True)
    assert all(u.unit < 2 for u in loud if u.adapter == 0)
    assert all(u.module.startswith("model.layers.1.") for u in loud)


def test_what_an_adapter_wrote_is_the_length_of_its_update(engine):
    found = trace(engine, "abc", "x", RowPlan((("a", 1.0),)))
    half = trace(engine, "abc", "x", RowPlan((("a", 1e-6),)))
    assert np.allclose(half.wrote[0] * 1e6, found.wrote[0], rtol=0.5)
    everything = {u.wrote for u in half.units[0, 0]}
    assert max(everything) <= half.wrote[0, 0, 0] * 2


def test_a_router_is_seen_at_work(engine):
    rule = router("self_activated", units=1, temperature=0.0, least=0.0)
    found = trace(engine, "abc", "xy", RowPlan(TERMS, router=rule))
    modules = {u.module for loud in found.units.values() for u in loud}
    for (_, _), loud in found.units.items():
        assert len({u.module for u in loud}) == len(loud)  # one unit in each module
    assert len(modules) > 1
    assert found.weights.max() <= 1


def test_what_has_no_parts_is_refused(engine):
    for plan in (RowPlan(), RowPlan(TERMS, fuse=True)):
        with pytest.raises(InvalidRequest, match="told apart"):
            trace(engine, "abc", "x", plan)
    with pytest.raises(InvalidRequest, match="too long"):
        trace(engine, "abc", "x" * 500, RowPlan(TERMS))


def test_a_decision_is_checked():
    good = np.ones((1, 2, 1))
    with pytest.raises(LoraStudioError, match="wrote"):
        Decision(("a", "b"), 1, (0,), ("x",), good * np.nan, good, {})
    with pytest.raises(LoraStudioError, match="weights"):
        Decision(("a", "b"), 1, (0,), ("x",), good, good[:, :1], {})
