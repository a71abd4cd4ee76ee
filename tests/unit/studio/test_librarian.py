"""The embedded demo enters the gallery once, and a new version of it replaces the old one."""

from dataclasses import replace

import pytest

from lora_studio.adapter import AdapterCard
from lora_studio.formats import save_adapter
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio.librarian import Librarian
from tests.conftest import build_adapter


def write(folder, name, seed, **card):
    adapter = build_adapter(seed)
    save_adapter(replace(adapter, card=AdapterCard(base_model="tiny", **card)), folder / name)


@pytest.fixture
def librarian(tmp_path, monkeypatch):
    folder = tmp_path / "adapters"
    monkeypatch.setattr(Settings, "demo_adapters_dir", property(lambda self: folder))
    settings = Settings(data_dir=tmp_path / "data")
    gallery = Gallery.open(settings)
    yield Librarian(settings, gallery, worker=None), gallery, folder
    gallery.close()


def titles(gallery):
    return [hit.entry.title for hit in gallery.search().hits]


def test_the_demo_is_added_once_with_good_neighbours_in_front(librarian):
    it, gallery, folder = librarian
    write(folder, "good", 1, title="Good", tags=("good-neighbour",))
    write(folder, "plain", 2, title="Plain")
    assert it.add_demo() == 2
    assert titles(gallery) == ["Good", "Plain"]
    assert it.add_demo() == 0


def test_a_new_version_replaces_the_old_one_and_nothing_else(librarian):
    it, gallery, folder = librarian
    write(folder, "one", 1, title="One")
    write(folder, "two", 2, title="Two")
    it.add_demo()
    gallery.add(replace(build_adapter(3), card=AdapterCard(title="Mine", base_model="tiny")))
    write(folder, "one", 1, title="One, described better")
    write(folder, "two", 4, title="Two, trained again")
    assert it.add_demo() == 2
    assert sorted(titles(gallery)) == ["Mine", "One, described better", "Two, trained again"]
