"""Every dialect of adapter files: one and only one recognises a file, and no update changes."""

import json
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import InvalidRequest
from lora_studio.formats import EXPORTS, export, load, load_adapter
from lora_studio.formats.reading import DIALECTS
from tests.deltas import deltas, distance
from tests.reference_deltas import fill, magnitudes, reference, write

FIXTURES = sorted((Path(__file__).parent.parent / "state_dicts").glob("*.json"))
EXACT = 1e-6


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem, scope="module")
def fixture(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_there_are_fixtures_of_every_dialect():
    covered = {json.loads(path.read_text(encoding="utf-8"))["dialect"] for path in FIXTURES}
    assert covered == {dialect.NAME for dialect in DIALECTS}


def test_exactly_one_dialect_matches(fixture):
    keys, metadata = list(fixture["tensors"]), fixture.get("metadata", {})
    assert [d.NAME for d in DIALECTS if d.matches(keys, metadata)] == [fixture["dialect"]]


def test_every_update_is_that_of_the_file(fixture, tmp_path):
    tensors = fill(fixture)
    adapter = load_adapter(write(fixture, tensors, tmp_path).parent)
    assert distance(deltas(adapter), reference(fixture, tensors)) < EXACT
    found = {n: m.magnitude for n, m in adapter.factors.items() if m.magnitude is not None}
    expected = magnitudes(fixture, tensors)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_convolutions_know_their_kernel(fixture, tmp_path):
    adapter = load_adapter(write(fixture, fill(fixture), tmp_path).parent)
    leaves = ("conv1", "conv2", "conv", "conv_in", "conv_out")
    for name, module in adapter.factors.items():
        is_conv = name.rpartition(".")[2] in leaves
        assert is_conv == (module.kernel is not None and module.kernel[1:] == (3, 3))
        if module.kernel:
            assert (module.kind, int(np.prod(module.kernel))) == ("conv", module.d_in)


def sayable(adapter, dialect):
    """kohya names UNets and their text encoders; the others have DoRA in all modules or none."""
    if dialect == "kohya":
        return set(adapter.components) <= {"unet", "text_encoder", "text_encoder_2"}
    whole = len({m.magnitude is None for m in adapter.factors.values()}) == 1
    return whole and (dialect == "peft" or adapter.modality == "image")


@pytest.mark.parametrize("dialect", EXPORTS.names())
def test_what_is_written_reads_back(fixture, dialect, tmp_path):
    adapter = load_adapter(write(fixture, fill(fixture), tmp_path / "in").parent)
    target = tmp_path / "out" / "file.safetensors"
    if not sayable(adapter, dialect):
        with pytest.raises(InvalidRequest, match=r"download (it|this adapter) for"):
            export(adapter, dialect, target)
        return
    path = export(adapter, dialect, target)
    again = load(path)
    assert again.adapter.card.source_format == dialect
    assert distance(deltas(again.adapter), deltas(adapter)) < (EXACT if dialect == "peft" else 5e-4)


def test_the_order_of_tensors_does_not_matter(fixture, tmp_path):
    tensors = fill(fixture)
    forth = load_adapter(write(fixture, tensors, tmp_path / "a").parent)
    back = load_adapter(write(fixture, dict(reversed(tensors.items())), tmp_path / "b").parent)
    assert forth.id == back.id
