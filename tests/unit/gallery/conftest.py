"""Small adapters, a gallery in a temporary folder, and the real MiniLM, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.gallery import Gallery
from lora_studio.retrieval.embed import Embedder, load_embedder
from lora_studio.settings import Settings

BASE = "tiny-base"

MakeAdapter = Callable[..., Adapter]


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    return load_embedder("minilm")


@pytest.fixture(scope="session")
def make_adapter() -> MakeAdapter:
    def make(seed: int = 0, *, rank: int = 2, layers: int = 2, **card: Any) -> Adapter:
        generator = np.random.default_rng(seed)
        factors = {
            f"model.layers.{layer}.self_attn.{kind}": LoraFactors(
                A=generator.normal(size=(rank, 6)).astype(np.float32) * 0.1,
                B=generator.normal(size=(4, rank)).astype(np.float32) * 0.1,
                scaling=2.0,
            )
            for layer in range(layers)
            for kind in ("q_proj", "v_proj")
        }
        return Adapter(factors, AdapterCard(**{"base_model": BASE, **card}))

    return make


IMAGE_MODULES = (
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_v",
)


def build_image_adapter(seed: int = 0, rank: int = 2, **card: Any) -> Adapter:
    """A random adapter of a pipeline: one module of the text encoder, four of the UNet."""
    generator = np.random.default_rng(seed)
    factors = {
        name: LoraFactors(
            A=generator.normal(size=(rank, 6)).astype(np.float32) * 0.1,
            B=generator.normal(size=(4, rank)).astype(np.float32) * 0.1,
            component=name.split(".")[0],
        )
        for name in IMAGE_MODULES
    }
    return Adapter(factors, AdapterCard(**{"base_model": "tiny-pipeline", **card}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def gallery(settings: Settings) -> Iterator[Gallery]:
    opened = Gallery.open(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def place(minilm: Embedder) -> Callable[[Gallery], None]:
    """Embeds whatever waits for it."""

    def embed(gallery: Gallery) -> None:
        for adapter_id, texts, source in gallery.pending_vectors(minilm.id):
            gallery.set_vectors(adapter_id, minilm.id, minilm.encode(texts), source)

    return embed
