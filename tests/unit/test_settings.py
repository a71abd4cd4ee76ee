from pathlib import Path

from lora_studio.settings import DEMO_BASE, MINILM, Settings


def test_unset_variables_keep_their_defaults(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    for name in ("DATA", "BASE", "PORT", "HOST", "EMBEDDER"):
        monkeypatch.delenv(f"LORA_STUDIO_{name}", raising=False)
    found = Settings.from_env()
    assert (found.base_model, found.embedder, found.host) == (DEMO_BASE, MINILM, "127.0.0.1")
    assert found.data_dir == Path.cwd() / ".studio"
    assert found.persistent


def test_variables_are_read(monkeypatch, tmp_path):
    monkeypatch.setenv("LORA_STUDIO_DATA", str(tmp_path))
    monkeypatch.setenv("LORA_STUDIO_MAX_UPLOAD_MB", "1.5")
    monkeypatch.setenv("LORA_STUDIO_PORT", "9000")
    found = Settings.from_env()
    assert (found.data_dir, found.max_upload_bytes, found.port) == (tmp_path, 1_572_864, 9000)


def test_a_space_listens_to_all_and_keeps_its_data_on_a_mounted_volume_only(monkeypatch, tmp_path):
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    monkeypatch.delenv("LORA_STUDIO_DATA", raising=False)
    monkeypatch.setattr("lora_studio.settings.SPACE_VOLUME", tmp_path)
    assert not Settings.from_env().persistent
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    found = Settings.from_env()
    assert (found.host, found.data_dir) == ("0.0.0.0", tmp_path / "lora-studio")
    assert found.persistent
