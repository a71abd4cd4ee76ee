"""A head: applied to centroids as to queries, kept whole in its file, and found by its embedder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.errors import InvalidRequest
from lora_studio.retrieval import head as heads
from lora_studio.retrieval.head import Head, head_for, head_path, load_head, save_head
from lora_studio.retrieval.retriever import centroid, unit_rows
from lora_studio.settings import Settings

DIM = 12


def made(seed: int = 0, size: float = 0.3, embedder: str = "minilm") -> Head:
    update = np.random.default_rng(seed).normal(size=(DIM, DIM)) * size
    return Head(embedder, update, {"seed": seed})


def rows(n: int = 5, seed: int = 1) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, DIM)))


def test_a_head_of_zeros_changes_nothing() -> None:
    np.testing.assert_allclose(Head("minilm", np.zeros((DIM, DIM)))(rows()), rows(), atol=1e-7)


def test_it_gives_unit_rows_whatever_the_length_of_what_it_gets() -> None:
    found = made()(rows())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(made()(7 * rows()), found, atol=1e-6)


def test_the_head_of_a_centroid_is_the_direction_of_the_mean_of_what_it_maps() -> None:
    head, samples = made(), rows(20)
    mapped = samples + samples @ head.update.T.astype(np.float32)  # not normalised
    np.testing.assert_allclose(head(centroid(samples))[0], unit_rows(mapped.mean(0))[0], atol=1e-6)


def test_its_file_brings_it_back_whole(tmp_path: Path) -> None:
    save_head(made(), tmp_path / "new" / "head.safetensors")
    back = load_head(tmp_path / "new" / "head.safetensors")
    assert (back.id, back.embedder, back.facts) == (made().id, "minilm", {"seed": 0})
    np.testing.assert_array_equal(back(rows()), made()(rows()))


def test_ids_differ_by_matrix_and_by_embedder() -> None:
    assert len({made().id, made(1).id, made(embedder="other").id}) == 3


@pytest.mark.parametrize("update", [np.zeros((3, 4)), np.zeros(3), np.full((3, 3), np.nan)])
def test_what_is_no_square_matrix_is_refused(update: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="square"):
        Head("minilm", update)


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="train-retriever"):
        made()(np.ones((1, DIM + 1)))


@pytest.mark.parametrize("tensors", [{"weight": np.zeros((3, 3), np.float16)}, None])
def test_other_files_are_refused(tmp_path: Path, tensors: dict | None) -> None:
    path = tmp_path / "x.safetensors"
    if tensors:
        save_file(tensors, path, {"embedder": "minilm"})
    else:
        path.write_bytes(b"nothing")
    with pytest.raises(InvalidRequest, match="no retriever head"):
        load_head(path)


def test_a_studios_own_head_is_found_and_others_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, settings = tmp_path / "shipped.safetensors", Settings(data_dir=tmp_path)
    monkeypatch.setattr(heads, "shipped_head", lambda: shipped)
    save_head(made(1), shipped)
    assert head_for(settings) is None
    save_head(made(2), head_path("minilm", tmp_path))
    assert _id(settings) == made(2).id
    assert head_for(Settings(data_dir=tmp_path, retriever="none")) is None
    assert _id(Settings(data_dir=tmp_path, retriever="demo")) == made(1).id
    assert _id(Settings(data_dir=tmp_path, retriever=str(shipped))) == made(1).id


def test_a_head_of_another_embedder_is_never_used(tmp_path: Path) -> None:
    file = tmp_path / "head.safetensors"
    save_head(made(), file)
    save_head(made(), head_path("minilm", tmp_path))
    assert head_for(Settings(data_dir=tmp_path, embedder="org/other")) is None
    for retriever in (str(file), "demo"):
        with pytest.raises(InvalidRequest, match="org/other"):
            head_for(Settings(data_dir=tmp_path, embedder="org/other", retriever=retriever))


def test_the_shipped_head_is_one_and_small() -> None:
    head = load_head(heads.shipped_head())
    assert (head.embedder, head.dim, len(head.facts["tasks"])) == ("minilm", 384, 7)
    assert heads.shipped_head().stat().st_size < 1_000_000


def _id(settings: Settings) -> str:
    head = head_for(settings)
    assert head is not None
    return head.id
