"""The real MiniLM, loaded once."""

from __future__ import annotations

import pytest

from lora_studio.retrieval.embed import Embedder, load_embedder


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    return load_embedder("minilm")
