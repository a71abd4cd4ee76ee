"""The probe on a tiny random Llama: what agrees, what does not, and what is left behind."""

from dataclasses import replace

import pytest

from lora_studio.adapter import AdapterCard
from lora_studio.composition import compose
from lora_studio.engines.text import TextEngine
from lora_studio.evaluation.probe import EngineProbe
from tests.tiny_models import random_adapter, save_model

SAMPLES = tuple(f"sample {i}" for i in range(6))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return TextEngine(save_model("llama", tmp_path_factory.mktemp("base")), device="cpu")


def source(seed):
    return replace(random_adapter(seed), card=AdapterCard(base_model="tiny", samples=SAMPLES))


def test_a_source_agrees_fully_with_itself_and_less_at_another_strength(engine):
    adapter = source(1)
    probe = EngineProbe(engine, {"a": adapter}, {"a": SAMPLES})
    whole, half, none = probe.agreement([(adapter, 1.0), (adapter, 0.3), (adapter, 0.0)])
    assert (whole.exact, whole.prompts) == (1.0, 6)
    assert none.key < whole.key
    assert half.key < whole.key


def test_auto_scale_undoes_a_wrong_strength(engine):
    adapter = source(1)
    probe = EngineProbe(engine, {"a": adapter}, {"a": SAMPLES})
    plan = compose("cat", [adapter], [0.5], probe=probe, auto_scale=True)
    assert plan.notes[0].startswith("Scale 2 was chosen")


def test_nothing_stays_in_the_bank_under_the_name_of_a_source(engine):
    adapter = source(2)
    engine.bank.add("a", random_adapter(7))
    probe = EngineProbe(engine, {"a": adapter}, {"a": SAMPLES[:1]})
    probe.agreement([(adapter, 1.0)])
    assert engine.bank.ids == ["a"]


def test_without_samples_nothing_is_claimed(engine):
    (found,) = EngineProbe(engine, {"a": source(1)}, {}).agreement([(source(1), 1.0)])
    assert found.prompts == 0
