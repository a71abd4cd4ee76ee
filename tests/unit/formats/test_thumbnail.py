import io
import zipfile

import pytest
from PIL import Image, PngImagePlugin

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load, save_adapter
from lora_studio.formats.thumbnail import MAX_BYTES, redraw
from tests.conftest import build_adapter


def picture(kind="PNG", size=(600, 300), **more):
    out = io.BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize(("kind", "name"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_picture_in_folder_or_zip_comes_along(tmp_path, kind, name):
    extra = {f"thumbnail.{name}": picture(kind)}
    folder = save_adapter(build_adapter(1), tmp_path / "mine", extra)
    assert load(folder).thumbnail == extra[f"thumbnail.{name}"]
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"mine/{file.name}")
    assert load(tmp_path / "mine.zip").thumbnail == extra[f"thumbnail.{name}"]


@pytest.mark.parametrize(
    "data", [b"<svg onload='x'>", b"", b"\x89PNG\r\n\x1a\n" + b"0" * MAX_BYTES]
)
def test_what_is_no_picture_or_too_large_is_left_out(tmp_path, data):
    folder = save_adapter(build_adapter(1), tmp_path / "mine", {"thumbnail.png": data})
    assert load(folder).thumbnail is None


def test_a_picture_is_drawn_anew_smaller_and_without_its_texts():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("secret", "home address")
    clean = redraw(picture(pnginfo=notes))
    with Image.open(io.BytesIO(clean)) as found:
        assert (found.format, found.size, found.info) == ("PNG", (256, 128), {})
        assert found.getpixel((3, 3)) == (200, 30, 40)


def test_pictures_that_are_none_or_bombs_are_refused():
    bomb = picture(size=(4100, 4100), compress_level=1)
    for data in (b"\x89PNG\r\n\x1a\n garbage", picture()[:100], bomb):
        with pytest.raises(InvalidAdapter, match="thumbnail"):
            redraw(data)
