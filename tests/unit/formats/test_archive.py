import zipfile

import pytest

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load_adapter, save_adapter
from tests.conftest import build_adapter


@pytest.fixture
def folder(tmp_path):
    return save_adapter(build_adapter(1), tmp_path / "mine")


def zipped(path, folder, extra=(), inside="mine/"):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, inside + file.name)
        for name in extra:
            archive.writestr(name, "x")
    return path


def test_a_zip_of_a_folder_is_the_adapter(tmp_path, folder):
    assert load_adapter(zipped(tmp_path / "a.zip", folder)).id == build_adapter(1).id


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\\b", "C:x", "a/../../x"])
def test_names_that_leave_the_folder_refuse_the_whole_archive(tmp_path, folder, name):
    with pytest.raises(InvalidAdapter, match="not allowed"):
        load_adapter(zipped(tmp_path / "a.zip", folder, [name]))


def test_two_adapters_in_one_zip_are_refused(tmp_path, folder):
    with pytest.raises(InvalidAdapter, match="2 weight files"):
        load_adapter(zipped(tmp_path / "a.zip", folder, ["b.safetensors"]))


def test_sizes_are_counted_not_believed(tmp_path, folder):
    from lora_studio.formats import load

    with pytest.raises(InvalidAdapter, match="larger than"):
        load(zipped(tmp_path / "a.zip", folder), max_bytes=100)


def test_a_damaged_zip_says_so(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 but nothing more")
    with pytest.raises(InvalidAdapter, match="damaged"):
        load_adapter(tmp_path / "a.zip")


def test_a_pickle_in_zip_clothes_gets_the_conversion_hint(tmp_path):
    import torch

    torch.save({"x": torch.zeros(1)}, tmp_path / "adapter.bin")
    with pytest.raises(InvalidAdapter, match="PyTorch pickle"):
        load_adapter(tmp_path / "adapter.bin")


def test_an_untitled_adapter_is_named_after_its_archive_or_not_at_all(tmp_path, folder):
    from lora_studio.formats import load

    (folder / "README.md").unlink()
    archive = zipped(tmp_path / "my-french.zip", folder, inside="")
    assert load(archive).adapter.card.title == "my-french"
    (tmp_path / "upload").mkdir()
    save_adapter(build_adapter(1), tmp_path / "upload")
    (tmp_path / "upload" / "README.md").unlink()
    assert load(tmp_path / "upload").adapter.card.title == ""
