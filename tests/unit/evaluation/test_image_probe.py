"""Merges of image adapters are judged by what their sources change in the denoiser."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged, compose
from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.image import ImageEngine
from lora_studio.evaluation.image_probe import ImageProbe
from tests.tiny_pipelines import random_adapter, save_pipeline

SAMPLES = {"a": ["a cat", "a dog"], "b": ["a house"]}


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> ImageEngine:
    return ImageEngine(str(save_pipeline("sd1", tmp_path_factory.mktemp("sd1"))), "cpu")


@pytest.fixture(scope="module")
def sources(engine) -> dict[str, Adapter]:
    modules = adaptable_modules(engine.bank.modules)
    own = {n: d for n, d in modules.items() if "attn" in n or "text_model.encoder" in n}
    own = {n: d for n, d in own.items() if n.startswith("unet.") or ".text_model." in n}
    return {"a": random_adapter(own, 1, size=0.15), "b": random_adapter(own, 2, size=0.15)}


def test_a_source_explains_itself_and_the_base_model_explains_nothing(engine, sources):
    alone = {"a": sources["a"]}
    probe = ImageProbe(engine, alone, SAMPLES)
    itself, doubled, nothing = probe.agreement(
        [(sources["a"], 1.0), (sources["a"], 2.0), (sources["a"], 0.0)]
    )
    assert itself.logprob == pytest.approx(1.0, abs=1e-4)
    assert nothing.logprob == pytest.approx(0.0, abs=1e-4)
    assert itself.key > doubled.key
    assert itself.prompts == 2


def test_auto_scale_undoes_a_wrong_strength(engine, sources):
    probe = ImageProbe(engine, {"a": sources["a"]}, SAMPLES)
    found = compose("svd", [sources["a"].scaled(0.25)], probe=probe, rank=4, auto_scale=True)
    assert isinstance(found, Merged)
    assert "Scale 4 was chosen on 2 sample prompts" in found.notes[0]
    assert "predictions is reproduced" in found.notes[0]


def test_the_bank_is_left_as_it_was(engine, sources):
    engine.bank.add("guest", sources["b"])
    before = set(engine.bank.ids)
    probe = ImageProbe(engine, sources, SAMPLES)
    probe.agreement([(sources["a"], 1.0)])
    assert set(engine.bank.ids) == before
    assert np.isfinite(probe.agreement([(sources["b"], 1.0)])[0].logprob)
