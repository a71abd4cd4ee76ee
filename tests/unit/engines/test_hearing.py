"""How loudly adapters answer to a prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_studio.composition import compose
from lora_studio.engines.hearing import hear
from lora_studio.engines.rows import RowPlan
from tests.unit.engines.test_adapter_bank import logits

PROMPTS = ["abc", "a much longer prompt", "xyz", "q", "the end", "abc"]


def test_every_prompt_has_a_signal_of_every_adapter_whatever_its_batch(engine):
    found = hear(engine, PROMPTS, ["a", "b", "c"])
    assert [set(one) for one in found] == [{"a", "b", "c"}] * len(PROMPTS)
    assert all(value > 0 for one in found for value in one.values())
    assert found[0] == pytest.approx(found[5], rel=1e-4)
    for prompt, signals in zip(PROMPTS, found, strict=True):
        assert hear(engine, [prompt], ["a", "b", "c"])[0] == pytest.approx(signals, rel=1e-3)


def test_a_large_adapter_does_not_win_by_its_size(engine, make_adapter):
    adapter = make_adapter(1, rank=2)
    last = {n: f for n, f in adapter.factors.items() if ".1." in n}
    loud = {n: replace(f, B=50 * f.B) for n, f in last.items()}
    engine.bank.add("quiet", replace(adapter, factors=last))
    engine.bank.add("loud", replace(adapter, factors=loud))
    quiet, large = hear(engine, ["abc"], ["quiet"])[0], hear(engine, ["abc"], ["loud"])[0]
    first = min(last, key=lambda name: "q_proj" not in name)
    assert "q_proj" in first
    assert np.isclose(quiet["quiet"], large["loud"], rtol=0.5)


def test_the_plan_shares_by_signal(engine, make_adapter):
    plan = compose("logo", [make_adapter(i) for i in range(3)], top_k=2)
    one, two, three = plan.weights
    row = plan.row({one: 3.0, two: 1.0, three: 0.5})
    assert dict(row.terms) == {one: 0.75, two: 0.25}
    assert plan.needs_retrieval
    silent = plan.row(dict.fromkeys(plan.weights, 0.0))
    assert [weight for _, weight in silent.terms] == [0.5, 0.5]


def test_listening_leaves_the_model_as_it_was(engine):
    before = logits(engine, [RowPlan()])
    hear(engine, PROMPTS, ["a", "b"])
    assert (logits(engine, [RowPlan()]) == before).all()
