"""A contributor's centroid: computed at home, checked here, and as good as the samples."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import InvalidRequest
from lora_studio.formats import card
from lora_studio.retrieval.centroids import MAX_DIM, Centroid, of_samples, read_centroid
from lora_studio.retrieval.embed import load_embedder
from lora_studio.retrieval.private_card import write_private_card
from lora_studio.retrieval.retriever import centroid

SAMPLES = ("Put this in the past: he eats.", "past tense: she sings", "yesterday: we go")
README = """---
base_model: tiny
license: apache-2.0
widget:
- text: 'Put this in the past: he eats.'
- text: 'past tense: she sings'
- text: 'yesterday: we go'
---
# Past tense

Puts sentences into the past.

## How it was trained

On one evening.
"""


def text(vector: np.ndarray, name: str = "minilm", count: str = "3") -> str:
    return f"{name} {count} {base64.b64encode(vector.astype('<f4').tobytes()).decode()}"


def unit(dim: int = 8) -> np.ndarray:
    vector = np.arange(1, dim + 1, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def test_what_is_written_is_read_again():
    sent = Centroid("minilm", 3, unit())
    found = read_centroid(sent.to_text())
    assert (found.embedder, found.count) == ("minilm", 3)
    assert np.array_equal(found.vector, sent.vector)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "minilm",
        "minilm 3",
        "minilm three AAAA",
        "minilm -1 AAAA",
        "minilm 3 ****",
        "minilm 3 AAAA",
        text(unit() * 1.01),
        text(unit() * 0),
        text(np.full(8, np.nan)),
        text(np.array([np.inf, 0, 0])),
        text(np.zeros(0)),
        text(np.full(MAX_DIM + 1, (MAX_DIM + 1) ** -0.5)),
        text(unit(), "x" * 301),
        text(unit()) + " more",
    ],
)
def test_a_centroid_that_is_not_one_is_refused(bad: str):
    with pytest.raises(InvalidRequest, match="centroid"):
        read_centroid(bad)


def test_the_card_command_leaves_the_vector_and_takes_the_samples_out(tmp_path: Path):
    (tmp_path / "README.md").write_text(README)
    found = write_private_card(tmp_path)
    written = (tmp_path / "README.md").read_text()
    read = card.parse(written)
    assert read.samples == ()
    assert not any(sample in written for sample in SAMPLES)
    assert (read.title, read.licence) == ("Past tense", "apache-2.0")
    assert "On one evening." in written
    expected = centroid(load_embedder("minilm").encode(SAMPLES))
    assert np.allclose(read_centroid(read.centroid).vector, expected, atol=1e-6)
    assert (found.count, found.embedder) == (3, "minilm")


def test_samples_may_lie_in_a_file_of_their_own(tmp_path: Path):
    lines = tmp_path / "samples.txt"
    lines.write_text("\n".join([*SAMPLES, "", SAMPLES[0]]))
    assert write_private_card(tmp_path, lines).count == 3
    with pytest.raises(InvalidRequest, match="no sample"):
        of_samples(["  "], load_embedder("minilm"))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        write_private_card(tmp_path, tmp_path / "nothing.txt")
