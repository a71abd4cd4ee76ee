"""Searching with a trained head: applied to places and queries, never to what is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import InvalidRequest
from lora_studio.gallery import Gallery
from lora_studio.retrieval.embed import Embedder
from lora_studio.retrieval.head import Head, head_path, save_head
from lora_studio.settings import Settings

BASE = "tiny-base"
SAMPLES = {"Past": ("Put it in the past: we eat",), "French": ("In French: two old cats",)}


@pytest.fixture
def bare(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", retriever="none")


@pytest.fixture
def head(minilm: Embedder) -> Head:
    update = np.random.default_rng(0).normal(size=(minilm.dim, minilm.dim)) * 0.1
    return Head(minilm.id, update)


@pytest.fixture
def filled(bare: Settings, make_adapter, place: Callable[[Gallery], None]) -> Settings:
    gallery = Gallery.open(bare)
    for seed, (title, samples) in enumerate(SAMPLES.items()):
        gallery.add(make_adapter(seed, title=title, samples=samples))
    place(gallery)
    gallery.close()
    return bare


def similarities(settings: Settings, query: np.ndarray) -> tuple[dict[str, float | None], str]:
    gallery = Gallery.open(settings)
    try:
        hits = gallery.retrieve(query, base=BASE, k=9)
        return {hit.entry.title: hit.similarity for hit in hits}, gallery.retriever_id
    finally:
        gallery.close()


def test_a_head_is_applied_to_places_and_queries_and_taken_off_without_embedding(
    filled: Settings, minilm: Embedder, head: Head, tmp_path: Path
) -> None:
    query = minilm.encode(["make this French"])[0]
    file = tmp_path / "head.safetensors"
    save_head(head, file)
    before, name = similarities(filled, query)
    assert name == minilm.id
    tuned, name = similarities(replace(filled, retriever=str(file)), query)
    assert name == f"{minilm.id}+head:{head.id[:12]}"
    for title, samples in SAMPLES.items():
        expected = float(head(query)[0] @ head(minilm.encode(samples))[0])
        assert tuned[title] == pytest.approx(expected, abs=1e-5)
        assert abs(expected - (before[title] or 0)) > 1e-3
    assert similarities(filled, query)[0] == pytest.approx(before, abs=1e-6)


def test_what_is_handed_out_and_what_arrives_are_vectors_of_the_embedder(
    filled: Settings, minilm: Embedder, head: Head, make_adapter, place
) -> None:
    save_head(head, head_path(minilm.id, filled.data_dir))
    gallery = Gallery.open(replace(filled, retriever="auto"))
    new = gallery.add(make_adapter(7, title="JSON", samples=("As JSON: Ann is 3",)))
    place(gallery)
    vector = gallery.vector(new.id)
    assert vector is not None
    np.testing.assert_allclose(vector, minilm.encode(["As JSON: Ann is 3"])[0], atol=1e-6)
    (first, *_) = gallery.retrieve(vector, base=BASE, k=1)
    assert (first.entry.title, first.similarity) == ("JSON", pytest.approx(1, abs=1e-5))
    places = {e.title: head(minilm.encode(SAMPLES[e.title]))[0] for e in map(_entry, _all(gallery))}
    for hit in gallery.similar(new.id):
        expected = float(places[hit.entry.title] @ head(vector)[0])
        assert hit.similarity == pytest.approx(expected, abs=1e-5)
    found = gallery.search("json", vector, base=BASE)
    assert found.hits[0].similarity == pytest.approx(1, abs=1e-5)
    gallery.close()


def test_a_damaged_head_of_its_own_does_not_keep_a_gallery_shut(
    filled: Settings, minilm: Embedder
) -> None:
    path = head_path(minilm.id, filled.data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nothing")
    gallery = Gallery.open(replace(filled, retriever="auto"))
    assert gallery.retriever_id == minilm.id
    gallery.close()
    with pytest.raises(InvalidRequest, match="no retriever head"):
        Gallery.open(replace(filled, retriever=str(path)))


def _all(gallery: Gallery):
    return [h for h in gallery.search(base=BASE).hits if h.entry.title in SAMPLES]


def _entry(hit):
    return hit.entry
