"""Where an adapter is placed: by its samples, by its card, or nowhere."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.adapter import AdapterCard
from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.embed import Embedder
from lora_studio.retrieval.retriever import MAX_SAMPLES, adapter_texts, centroid, nearest

TASKS = {
    "past": ["Put it in the past tense: she walks home", "Past tense: they eat", "Make it past"],
    "french": ["Translate to French: the red car", "In French: two cats", "French for: a house"],
    "json": ["As JSON: name Ann, age 3", "Turn into a JSON object: city Rome", "JSON: colour red"],
    "polite": ["Say it politely: open the door", "More polite: sit down", "Be courteous: go away"],
}


def test_samples_win_over_the_card() -> None:
    card = AdapterCard(title="Past tense", samples=(" she walks ", "she walks", "", "they eat"))
    assert adapter_texts(card) == (["she walks", "they eat"], "samples")


def test_a_card_stands_in_for_missing_samples() -> None:
    card = AdapterCard(title="Past tense", description="Rewrites sentences.", tags=("grammar",))
    assert adapter_texts(card) == (["Past tense. Rewrites sentences. grammar"], "card")


def test_an_empty_card_places_nothing() -> None:
    assert adapter_texts(AdapterCard(samples=("  ",))) == ([], "")


def test_samples_are_capped() -> None:
    texts, _ = adapter_texts(AdapterCard(samples=tuple(str(i) for i in range(1000))))
    assert len(texts) == MAX_SAMPLES


def test_centroid_is_the_unit_mean() -> None:
    found = centroid(np.array([[2.0, 0, 0], [0, 5.0, 0]]))
    assert np.allclose(found, [0.5**0.5, 0.5**0.5, 0])
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "bad", [[[np.nan, 1.0]], [[0.0, 0.0]], [[np.inf, 1.0]], [[1.0, 0], [-1.0, 0]], np.zeros((0, 3))]
)
def test_vectors_without_a_direction_are_refused(bad: list) -> None:
    with pytest.raises(InvalidRequest):
        centroid(np.asarray(bad, np.float32))


def test_nearest_returns_row_and_cosine() -> None:
    row, cosine = nearest(np.array([0, 2.0]), np.array([[1.0, 0], [0.6, 0.8]]))
    assert row == 1
    assert cosine == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("query", "task"),
    [
        ("turn the sentence into past tense", "past"),
        ("how do you say this in French?", "french"),
        ("give me structured data with keys and values", "json"),
        ("a kinder way to ask", "polite"),
    ],
)
def test_a_task_sentence_finds_its_adapter(minilm: Embedder, query: str, task: str) -> None:
    names = list(TASKS)
    centroids = np.stack([centroid(minilm.encode(TASKS[name])) for name in names])
    row, cosine = nearest(minilm.encode([query])[0], centroids)
    assert names[row] == task
    assert cosine < 1
