"""What is found, in which order, for which reason, with which counts beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lora_studio.errors import InvalidRequest
from lora_studio.gallery import Gallery, Hit
from lora_studio.retrieval.embed import Embedder
from lora_studio.settings import Settings

BASE = "tiny-base"
PAST = ("Rewrite in the past tense: she walks home", "Put it in the past: they eat soup")
FRENCH = ("Translate to French: the red car", "Say in French: two old cats")
JSON = ("Turn into JSON: Ann is 3", "As a JSON object: Rome, Italy")


def titles(hits: list[Hit]) -> list[str]:
    return [hit.entry.title for hit in hits]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, make_adapter, place) -> Iterator[Gallery]:
    """Seven placed adapters of three contributors and two bases; one by its card only."""
    gallery = Gallery.open(Settings(data_dir=tmp_path_factory.mktemp("gallery")))
    grammar, language = ("grammar", "english"), ("translation", "french")
    for seed, (rank, card) in enumerate(
        [
            (2, {"title": "Past tense", "samples": PAST, "tags": grammar, "contributor": "Ann"}),
            (4, {"title": "To French", "samples": FRENCH, "tags": language, "contributor": "Bob"}),
            (4, {"title": "Clean JSON", "samples": JSON, "tags": ("data",), "contributor": "Ann"}),
            (8, {"title": "Politeness", "tags": ("grammar",), "contributor": "Cleo",
                 "description": "Makes a blunt request polite and courteous."}),
            (2, {"title": "Past tense", "samples": PAST, "base_model": "other"}),
            (2, {"title": "Future tense", "tags": grammar, "contributor": "Bob", "licence": "MIT",
                 "samples": ("Rewrite in the future tense: he sings", "Say it as tomorrow: I go")}),
            (2, {"title": "Plurals", "tags": language, "contributor": "Bob", "licence": "MIT",
                 "samples": ("French plural: le chat rouge", "Mets au pluriel : une maison")}),
        ]
    ):  # fmt: skip
        gallery.add(make_adapter(seed, rank=rank, **card))
    place(gallery)
    yield gallery
    gallery.close()


def test_a_task_sentence_finds_its_adapter_with_its_nearest_sample(
    shelf: Gallery, minilm: Embedder
) -> None:
    text = "turn the sentence into past tense"
    found = shelf.search(text, minilm.encode([text])[0], base=BASE)
    first = found.hits[0]
    assert found.mode == "semantic"
    assert first.entry.title == "Past tense"
    assert (first.reason, first.reason_kind) == (PAST[0], "sample")
    assert first.similarity is not None
    assert 0.5 < first.similarity < 1
    cosines = [hit.similarity or 0 for hit in found.hits]
    assert cosines == sorted(cosines, reverse=True)
    assert found.total == 6


def test_similarity_is_the_cosine_to_the_centroid(shelf: Gallery, minilm: Embedder) -> None:
    query = minilm.encode(["quelque chose en français"])[0]
    hit = next(h for h in shelf.search(vector=query).hits if h.entry.title == "To French")
    middle = minilm.encode(FRENCH).mean(0)
    expected = query @ middle / np.linalg.norm(middle)
    assert hit.similarity == pytest.approx(float(expected), abs=1e-5)
    place = shelf.vector(hit.entry.id)
    assert place is not None
    assert hit.similarity == pytest.approx(float(query @ place), abs=1e-5)


def test_an_adapter_without_samples_is_placed_by_its_card_and_says_so(
    shelf: Gallery, minilm: Embedder
) -> None:
    text = "ask more kindly"
    first = shelf.search(text, minilm.encode([text])[0], base=BASE).hits[0]
    assert first.entry.title == "Politeness"
    assert first.entry.described_by == "card"
    assert (first.reason, first.reason_kind) == (first.entry.description, "card")


def test_keywords_serve_without_an_embedder(shelf: Gallery) -> None:
    found = shelf.search("turn the sentence into past tense", base=BASE)
    assert found.mode == "keyword"
    assert titles(found.hits)[0] == "Past tense"
    assert "To French" not in titles(found.hits)
    first = found.hits[0]
    assert (first.similarity, first.reason, first.reason_kind) == (None, "past, tense", "keyword")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("frenc", "To French"),
        ("FRÉNCH", "To French"),
        ("translating", "To French"),
        ("jsons", "Clean JSON"),
        ("cleo", "Politeness"),
        ("polit", "Politeness"),
        ("plural", "Plurals"),
        ("rome", "Clean JSON"),
    ],
)
def test_words_match_by_stem_beginning_and_without_accents(
    shelf: Gallery, text: str, title: str
) -> None:
    assert titles(shelf.search(text, base=BASE).hits)[0] == title


@pytest.mark.parametrize("text", ["zebra", "!!!", "日本"])
def test_words_nobody_has_find_nothing(shelf: Gallery, text: str) -> None:
    found = shelf.search(text)
    assert (found.mode, found.total, found.hits) == ("keyword", 0, [])
    assert all(not counts for counts in found.facets.values())


def test_an_adapter_named_by_the_query_comes_first(shelf: Gallery, minilm: Embedder) -> None:
    vector = minilm.encode(["Translate to French: the red car"])[0]
    assert titles(shelf.search("", vector, base=BASE).hits)[0] == "To French"
    assert titles(shelf.search("cleo", vector, base=BASE).hits)[0] == "Politeness"


def test_no_query_lists_all_newest_first(shelf: Gallery) -> None:
    found = shelf.search()
    assert found.mode == "all"
    assert titles(found.hits)[0] == "Plurals"
    assert (found.total, found.hits[0].similarity, found.hits[0].reason_kind) == (7, None, "")


def test_filters_apply_before_the_best_are_taken(shelf: Gallery, minilm: Embedder) -> None:
    vector = minilm.encode(["turn the sentence into past tense"])[0]
    found = shelf.search("past", vector, base=BASE, contributors=["Bob"], limit=1)
    assert titles(found.hits) == ["Future tense"]
    assert found.total == 3
    assert titles(shelf.search("past", vector, ranks=[8]).hits) == ["Politeness"]
    assert shelf.search("past", vector, kinds=["composed"]).total == 0
    assert shelf.search("past", vector, licences=["GPL"]).hits == []


def test_several_tags_narrow_and_several_contributors_widen(shelf: Gallery) -> None:
    both = shelf.search(base=BASE, tags=["grammar", "english"])
    assert set(titles(both.hits)) == {"Past tense", "Future tense"}
    either = shelf.search(base=BASE, contributors=["Ann", "Cleo"])
    assert set(titles(either.hits)) == {"Past tense", "Clean JSON", "Politeness"}


def counts(found, facet: str) -> dict:
    return {item["value"]: item["count"] for item in found.facets[facet]}


def test_a_count_is_what_choosing_the_value_would_show(shelf: Gallery) -> None:
    chosen = {"base": BASE, "contributors": ["Bob"], "tags": ["french"]}
    found = shelf.search(**chosen)
    assert found.total == 2
    for value, count in counts(found, "contributors").items():
        assert shelf.search(**{**chosen, "contributors": [value]}).total == count
    for value, count in counts(found, "ranks").items():
        assert shelf.search(**chosen, ranks=[value]).total == count
    for value, count in counts(found, "tags").items():
        assert shelf.search(**{**chosen, "tags": ["french", value]}).total == count
    for value, count in counts(found, "base").items():
        assert shelf.search(**{**chosen, "base": value}).total == count


def test_counts_cover_the_filtered_set_of_a_text_search(shelf: Gallery) -> None:
    found = shelf.search("tense", base=BASE)
    assert counts(found, "contributors") == {"Ann": 1, "Bob": 1}
    assert counts(found, "licences") == {"MIT": 1}
    assert counts(found, "base") == {BASE: 2, "other": 1}
    assert counts(found, "ranks") == {2: 2}


def test_a_chosen_value_stays_visible_at_zero(shelf: Gallery) -> None:
    found = shelf.search("json", base=BASE, contributors=["Cleo"])
    assert counts(found, "contributors") == {"Ann": 1, "Cleo": 0}


@pytest.mark.parametrize("with_vector", [True, False])
def test_pages_follow_one_another(shelf: Gallery, minilm: Embedder, with_vector: bool) -> None:
    vector = minilm.encode(["past tense"])[0] if with_vector else None
    text = "past tense" if with_vector else ""
    whole = shelf.search(text, vector)
    pages = [shelf.search(text, vector, offset=start, limit=2) for start in (0, 2, 4, 6, 8)]
    assert [h.entry.id for page in pages for h in page.hits] == [h.entry.id for h in whole.hits]
    assert {page.total for page in pages} == {whole.total}
    assert shelf.search(limit=0).hits == []


def test_sorting_keeps_what_matched(shelf: Gallery, minilm: Embedder) -> None:
    vector = minilm.encode(["past tense"])[0]
    found = shelf.search("past tense", vector, sort="title", base=BASE)
    assert titles(found.hits) == sorted(titles(found.hits), key=str.casefold)
    assert all(hit.similarity is not None for hit in found.hits)
    assert found.hits[0].entry.title == "Clean JSON"
    assert shelf.search(sort="size").hits[0].entry.title == "Politeness"
    assert titles(shelf.search("tense", sort="newest", base=BASE).hits)[0] == "Future tense"


def test_bad_requests_name_the_field(shelf: Gallery, minilm: Embedder) -> None:
    with pytest.raises(InvalidRequest, match="sort is 'best'"):
        shelf.search(sort="best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidRequest, match="offset"):
        shelf.search(offset=-1)
    for vector in (np.full(384, np.nan), np.zeros(384), np.ones(10)):
        with pytest.raises(InvalidRequest):
            shelf.search("x", vector)
        with pytest.raises(InvalidRequest):
            shelf.retrieve(vector, base=BASE)


def test_similar_adapters_are_of_the_same_base_and_never_itself(shelf: Gallery) -> None:
    entry = shelf.search("past", base=BASE).hits[0].entry
    hits = shelf.similar(entry.id, limit=3)
    assert len(hits) == 3
    assert hits[0].entry.title == "Future tense"
    assert hits[0].reason_kind == "sample"
    assert all(hit.entry.base_model == BASE and hit.entry.id != entry.id for hit in hits)


def test_retrieve_gives_the_top_k_of_a_base(shelf: Gallery, minilm: Embedder) -> None:
    vector = minilm.encode(["write this in French"])[0]
    hits = shelf.retrieve(vector, base=BASE, k=2)
    assert set(titles(hits)) == {"To French", "Plurals"}
    rest = shelf.retrieve(vector, base=BASE, k=99, exclude=[hits[0].entry.id])
    assert len(rest) == 5
    only = shelf.retrieve(vector, base=BASE, among=[rest[-1].entry.id, "unknown"])
    assert only == [rest[-1]]
    assert shelf.retrieve(vector, base=BASE, kinds=("composed",)) == []
    assert len(shelf.retrieve(vector, base=BASE, k=9, kinds=("composed", "uploaded"))) == 6
    assert shelf.retrieve(vector, base="nothing") == []
    assert shelf.retrieve(vector, base=BASE, k=0) == []


def test_an_unplaced_adapter_is_browsed_and_found_by_its_words(
    gallery: Gallery, make_adapter, minilm: Embedder, place
) -> None:
    gallery.add(make_adapter(1, title="Placed", samples=("Count the apples",)))
    place(gallery)
    gallery.add(make_adapter(2, title="Fresh", description="Names the colour of a thing"))
    vector = minilm.encode(["colour"])[0]
    assert titles(gallery.search().hits) == ["Fresh", "Placed"]
    assert titles(gallery.search("colour").hits) == ["Fresh"]
    found = gallery.search("the colour please", vector)
    assert titles(found.hits) == ["Placed", "Fresh"]
    assert (found.hits[1].similarity, found.hits[1].reason) == (None, "colour")
    assert titles(gallery.search("apples", vector).hits) == ["Placed"]


def test_before_any_vector_a_semantic_search_falls_back_to_words(
    gallery: Gallery, make_adapter, minilm: Embedder
) -> None:
    gallery.add(make_adapter(1, title="Colours"))
    found = gallery.search("colour", minilm.encode(["colour"])[0])
    assert (found.mode, titles(found.hits)) == ("keyword", ["Colours"])


def test_an_empty_gallery_answers_everything(gallery: Gallery) -> None:
    assert gallery.search().total == 0
    assert gallery.search("x", np.ones(4), tags=["a"], sort="title").hits == []
    assert gallery.retrieve(np.ones(4), base=BASE) == []
    assert gallery.search().facets["tags"] == []


def test_results_are_plain_json(shelf: Gallery, minilm: Embedder) -> None:
    found = shelf.search("past", minilm.encode(["past"])[0])
    data = json.loads(json.dumps(found.to_dict()))
    assert {"id", "title", "samples", "similarity", "reason", "reason_kind"} <= set(data["hits"][0])
    assert isinstance(data["hits"][0]["tags"], list)


def test_searching_while_adding_and_deleting_is_safe(gallery: Gallery, make_adapter) -> None:
    adapters = [make_adapter(s, title=f"Word{s} tense", samples=("a",)) for s in range(24)]
    done = threading.Event()
    vectors = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)

    def search(seed: int) -> None:
        generator = np.random.default_rng(seed)
        while not done.is_set():
            found = gallery.search("tense", generator.normal(size=16), limit=5)
            assert len(found.hits) <= 5
            assert all(not hit.entry.deleted for hit in gallery.search("tense").hits)

    def add(part: slice) -> None:
        for adapter, vector in zip(adapters[part], vectors[part], strict=True):
            entry = gallery.add(adapter)
            gallery.set_vectors(entry.id, "minilm", vector[None], "samples")
            gallery.delete(entry.id)
            gallery.restore(entry.id)

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(search, seed) for seed in range(3)]
        writers = [pool.submit(add, slice(i, None, 3)) for i in range(3)]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    found = gallery.search("tense", vectors[7], limit=24)
    assert found.total == len({hit.entry.id for hit in found.hits}) == 24
    assert found.hits[0].entry.id == adapters[7].id
