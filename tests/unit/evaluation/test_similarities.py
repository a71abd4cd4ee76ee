"""By what prompts find their adapters in an evaluation: the same as in the studio."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.composition.choice import BLANK, BLANK_TEXT
from lora_studio.evaluation.plans import similarities
from lora_studio.retrieval.embed import load_embedder
from lora_studio.retrieval.head import Head
from tests.conftest import build_adapter

PROMPTS = ("Put it in the past: he eats", "What is DNA?")


def adapters():
    one = build_adapter(1, samples=("In the past: we go", "In the past: she sings"))
    silent = build_adapter(2, title="", samples=())
    return {"past": one, "silent": silent}


@pytest.mark.parametrize("with_head", [False, True])
def test_prompts_are_compared_with_places_and_with_a_blank_text(with_head: bool) -> None:
    embedder = load_embedder("minilm")
    update = np.random.default_rng(0).normal(size=(embedder.dim, embedder.dim)) * 0.05
    head = Head(embedder.id, update) if with_head else None
    pool = adapters()
    found = similarities(embedder, pool, PROMPTS, head)
    samples = embedder.encode(pool["past"].card.samples)
    place = samples.mean(0) / np.linalg.norm(samples.mean(0))
    queries, blank = embedder.encode(PROMPTS), embedder.encode([BLANK_TEXT])[0]
    if head:
        queries, place, blank = head(queries), head(place)[0], head(blank)[0]
    for near, query in zip(found, queries, strict=True):
        assert near["past"] == pytest.approx(float(query @ place), abs=1e-4)
        assert near[BLANK] == pytest.approx(float(query @ blank), abs=1e-4)
    assert found[0]["past"] > found[1]["past"]
    assert all("silent" not in near for near in found)
    assert similarities(embedder, pool, [], head) == []
