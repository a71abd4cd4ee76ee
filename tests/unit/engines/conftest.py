"""Tiny random models and engines, made once a session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.image import ImageEngine
from lora_studio.engines.text import TextEngine
from tests.tiny_models import random_adapter, save_model
from tests.tiny_pipelines import random_adapter as random_unet_adapter
from tests.tiny_pipelines import save_pipeline

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory):
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_model(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def engine_of(model_folder):
    made: dict[str, TextEngine] = {}

    def engine(kind: str) -> TextEngine:
        if kind not in made:
            made[kind] = TextEngine(model_folder(kind), device="cpu", max_rows=4)
        return made[kind]

    return engine


@pytest.fixture(scope="session")
def make_adapter():
    return random_adapter


@pytest.fixture
def engine(engine_of, make_adapter):
    """The Llama engine with adapters a (rank 2), b (rank 7, scaled), c (rank 4, few modules)."""
    engine = engine_of("llama")
    engine.bank.add("a", make_adapter(1, rank=2))
    engine.bank.add("b", make_adapter(2, rank=7, scaling=-0.7))
    engine.bank.add("c", make_adapter(3, rank=4, skip=3))
    yield engine
    for name in engine.bank.ids:
        engine.bank.remove(name)


@pytest.fixture(scope="session")
def paired_engine(tmp_path_factory: pytest.TempPathFactory):
    """Kind of pipeline -> an image engine with two adapters, whose words are "cat" and "dog", in
    its bank and in its attribute `adapters`."""
    made: dict[str, ImageEngine] = {}

    def engine(kind: str) -> ImageEngine:
        if kind not in made:
            found: Any = ImageEngine(str(save_pipeline(kind, tmp_path_factory.mktemp(kind))), "cpu")
            modules = adaptable_modules(found.bank.modules)
            unet = {name: dims for name, dims in modules.items() if name.startswith("unet.")}
            found.adapters = []
            for seed, word in ((1, "cat"), (2, "dog")):
                adapter = random_unet_adapter(unet, seed)
                adapter = replace(adapter, card=replace(adapter.card, trigger_words=(word,)))
                found.adapters.append(adapter)
                found.bank.add(adapter.id, adapter)
            made[kind] = found
        return made[kind]

    return engine
