"""The embedded demos enter the gallery once, and a new version of them replaces the old one."""

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from lora_studio.adapter import AdapterCard
from lora_studio.formats import save_adapter
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio.demos import GROUP, add_demo
from tests.conftest import build_adapter
from tests.unit.gallery.conftest import build_image_adapter


def png(colour=(200, 40, 60), side=600):
    out = BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def write(folder, name, seed, **card):
    adapter = build_adapter(seed)
    save_adapter(replace(adapter, card=AdapterCard(base_model="tiny", **card)), folder / name)


def write_image(folder, name, seed, **extra):
    adapter = build_image_adapter(seed, title=name)
    save_adapter(adapter, folder / name, extra)


@pytest.fixture
def demo(tmp_path, monkeypatch):
    folders = tmp_path / "adapters", tmp_path / "images"
    monkeypatch.setattr(Settings, "demo_adapters_dir", property(lambda self: folders[0]))
    monkeypatch.setattr(Settings, "demo_image_adapters_dir", property(lambda self: folders[1]))
    settings = Settings(data_dir=tmp_path / "data")
    gallery = Gallery.open(settings)
    yield (lambda: add_demo(settings, gallery)), gallery, folders
    gallery.close()


def titles(gallery):
    return [hit.entry.title for hit in gallery.search().hits]


def test_the_demo_is_added_once_with_good_neighbours_in_front(demo):
    add, gallery, (folder, _) = demo
    write(folder, "good", 1, title="Good", tags=("good-neighbour",))
    write(folder, "plain", 2, title="Plain")
    assert add() == 2
    assert titles(gallery) == ["Good", "Plain"]
    assert add() == 0


def test_a_new_version_replaces_the_old_one_and_nothing_else(demo):
    add, gallery, (folder, images) = demo
    write(folder, "one", 1, title="One")
    write(folder, "two", 2, title="Two")
    write_image(images, "neon", 5)
    add()
    gallery.add(replace(build_adapter(3), card=AdapterCard(title="Mine", base_model="tiny")))
    write(folder, "one", 1, title="One, described better")
    write_image(images, "neon", 6)
    assert add() == 3
    assert sorted(titles(gallery)) == ["Mine", "One, described better", "Two", "neon"]


def test_text_and_image_adapters_alternate_and_pictures_are_small(demo):
    add, gallery, (folder, images) = demo
    for i in range(GROUP + 1):
        write(folder, f"text{i}", i, title=f"text{i}", tags=("good-neighbour",))
    write_image(images, "neon", 20, **{"thumbnail.png": png()})
    add()
    shown = [hit.entry.modality for hit in gallery.search().hits]
    assert shown == ["text"] * GROUP + ["image"] + ["text"]
    (neon,) = gallery.search(modality="image").hits
    picture = Image.open(gallery.thumbnail_path(neon.entry.id))
    assert (picture.format, picture.size) == ("PNG", (256, 256))


def test_a_changed_picture_is_a_new_version(demo):
    add, gallery, (_, images) = demo
    write_image(images, "neon", 20, **{"thumbnail.png": png()})
    add()
    before = gallery.search().hits[0].entry.thumbnail
    (images / "neon" / "thumbnail.png").write_bytes(png((0, 0, 0)))
    assert add() == 1
    assert gallery.search().hits[0].entry.thumbnail not in ("", before)
