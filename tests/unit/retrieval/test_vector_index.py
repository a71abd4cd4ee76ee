"""The vector index is exact, refuses bad values, and its file is trusted only when whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.index import VectorIndex


def rows(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made(n: int = 50) -> tuple[VectorIndex, np.ndarray]:
    vectors = rows(n)
    return VectorIndex.build([f"a{i}" for i in range(n)], vectors), vectors


def test_search_is_exact_and_ordered() -> None:
    index, vectors = made()
    query = rows(1, seed=1)[0]
    expected = np.argsort(-(vectors @ query))[:5]
    found = index.search(3 * query, 5)
    assert [row for row, _ in found] == expected.tolist()
    assert np.allclose([c for _, c in found], (vectors @ query)[expected], atol=1e-6)


def test_the_mask_applies_before_the_top_k() -> None:
    index, vectors = made()
    query = rows(1, seed=1)[0]
    allowed = np.zeros(50, bool)
    worst = np.argsort(vectors @ query)[:7]
    allowed[worst] = True
    assert {row for row, _ in index.search(query, 7, allowed)} == set(worst.tolist())


@pytest.mark.parametrize("k", [0, -3, 10**7])
def test_k_is_clamped(k: int) -> None:
    index, _ = made(5)
    assert len(index.search(rows(1)[0], k)) == (5 if k > 0 else 0)


def test_an_empty_index_finds_nothing() -> None:
    assert VectorIndex(16).search(rows(1)[0], 3) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_bad_vectors_are_refused(bad: float) -> None:
    index, _ = made(5)
    vector = np.full(16, bad, np.float32)
    with pytest.raises(InvalidRequest):
        index.search(vector, 1)
    with pytest.raises(InvalidRequest):
        index.put("new", vector)
    with pytest.raises(InvalidRequest):
        VectorIndex.build(["x"], vector[None])


def test_a_wrong_length_names_both_lengths() -> None:
    with pytest.raises(InvalidRequest, match=r"16.*17"):
        made(5)[0].search(np.ones(17, np.float32), 1)


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        VectorIndex.build(["x", "x"], rows(2))


def test_put_adds_and_replaces() -> None:
    index, vectors = made(5)
    fresh = rows(2, seed=9)
    index.put("new", fresh[0])
    index.put("a2", fresh[1])
    assert len(index) == 6
    assert np.allclose(index.vector("new"), fresh[0], atol=1e-6)
    assert np.allclose(index.vector("a2"), fresh[1], atol=1e-6)
    assert np.allclose(index.vector("a4"), vectors[4], atol=1e-6)
    assert index.search(fresh[1], 1)[0][0] == index.row("a2")


def test_a_saved_index_comes_back_whole(tmp_path: Path) -> None:
    index, vectors = made()
    index.save(tmp_path / "i.faiss", "7")
    back = VectorIndex.load(tmp_path / "i.faiss", "7")
    assert back is not None
    assert back.ids == index.ids
    assert np.allclose(back.vector("a9"), vectors[9])
    assert [p.name for p in tmp_path.iterdir()] == ["i.faiss"]


def test_a_cache_of_another_state_or_none_is_not_used(tmp_path: Path) -> None:
    made()[0].save(tmp_path / "i.faiss", "7")
    assert VectorIndex.load(tmp_path / "i.faiss", "8") is None
    assert VectorIndex.load(tmp_path / "missing", "7") is None


def test_no_flipped_byte_is_ever_loaded(tmp_path: Path) -> None:
    path = tmp_path / "i.faiss"
    made(8)[0].save(path, "7")
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(whole), 200):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(0, 8))
        path.write_bytes(damaged)
        assert VectorIndex.load(path, "7") is None, f"byte {position}"


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n", b"\xff\xfe\n\n", b"null\nx"])
def test_rubbish_is_not_loaded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "i").write_bytes(content)
    assert VectorIndex.load(tmp_path / "i", "7") is None


def test_a_truncated_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "i"
    made(8)[0].save(path, "7")
    path.write_bytes(path.read_bytes()[:-4])
    assert VectorIndex.load(path, "7") is None
    header = json.loads(path.read_bytes().split(b"\n")[0])
    assert header["stamp"] == "7"
