"""What was fitted is found among the studio's own files first, then beside its base model."""

from __future__ import annotations

from pathlib import Path

from lora_studio.composition.gate import gate_for
from lora_studio.fitted import find, own_path, paths


def test_the_studios_own_is_found_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LORA_STUDIO_DATA", str(tmp_path / "data"))
    base = tmp_path / "base"
    base.mkdir()
    own, beside = paths("gate", str(base))
    assert beside == base / "fitted" / "gate.safetensors"
    assert find("gate", str(base)) is None
    assert gate_for(str(base)) is None
    for place in (beside, own):
        place.parent.mkdir(parents=True)
        place.write_bytes(b"")
        assert find("gate", str(base)) == place
    assert find("smora", str(base)) is None


def test_a_model_of_the_hub_has_nothing_beside_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LORA_STUDIO_DATA", str(tmp_path))
    (own,) = paths("gate", "someone/some-model")
    assert own == tmp_path / "fitted" / "gate.someone--some-model.safetensors"


def test_names_of_any_length_and_kind_make_a_file_name() -> None:
    data = Path("data")
    long = own_path("retriever", "/" + "deep/" * 100 + "model", data)
    assert long.name.endswith("deep--model.safetensors")
    assert len(long.name) < 200
    assert own_path("gate", "../../etc", data).resolve().parent == (data / "fitted").resolve()
