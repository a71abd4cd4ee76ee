"""Statistics beside the gallery: a cache that leaves with the adapters it was taken from."""

import os

import pytest

from lora_studio.gallery import Gallery
from lora_studio.gallery.statistics import Statistics
from lora_studio.rank_units.statistics import gather
from lora_studio.settings import Settings
from tests.conftest import build_adapter

SHAS = ["a" * 64, "b" * 64, "c" * 64]


@pytest.fixture
def filled(tmp_path):
    kept = Statistics(tmp_path / "statistics")
    fill(kept, SHAS)
    return kept


def fill(kept, shas):
    profiles, pairs = gather([build_adapter(i) for i in range(len(shas))])
    for i, profile in profiles.items():
        kept.keep(profile.dump(), shas[i])
    for (i, j), pair in pairs.items():
        kept.keep(pair.dump(), shas[i], shas[j])


def test_what_is_kept_is_found_again(filled):
    profiles, pairs, missing = filled.load(SHAS)
    assert set(profiles) == set(SHAS)
    assert missing == []
    assert set(pairs) == {(SHAS[0], SHAS[1]), (SHAS[0], SHAS[2]), (SHAS[1], SHAS[2])}
    assert filled.has(SHAS)


def test_a_damaged_file_is_missing(filled):
    filled.path(SHAS[0], SHAS[2]).write_bytes(b"torn")
    assert filled.load(SHAS)[2] == [(SHAS[0], SHAS[2])]
    filled.path(SHAS[1]).write_bytes(b"")
    assert set(filled.load(SHAS)[0]) == {SHAS[0], SHAS[2]}


def test_nothing_is_there_before_anything_was_kept(tmp_path):
    kept = Statistics(tmp_path / "none")
    assert not kept.has(SHAS[:1])
    assert kept.load(SHAS)[0] == {}
    assert kept.sweep(set(), 0.0) == 0
    kept.remove(SHAS[0])


def test_a_sweep_takes_what_belongs_to_nobody_and_what_there_is_no_room_for(filled, tmp_path):
    assert filled.sweep({SHAS[0], SHAS[1]}, 3600.0) == 3
    assert filled.has(SHAS[:2])
    assert not filled.has(SHAS)
    old, size = filled.path(SHAS[0], SHAS[1]), filled.path(SHAS[0]).stat().st_size
    os.utime(old, (1.0, 1.0))
    tight = Statistics(filled.root, room=2 * size)
    assert tight.sweep(set(SHAS), 3600.0) == 1
    assert not old.exists()
    assert filled.path(SHAS[0]).exists()


def test_a_full_disk_keeps_nothing_and_says_nothing_to_people(tmp_path):
    (tmp_path / "statistics").write_text("in the way")
    Statistics(tmp_path / "statistics").keep(b"x", SHAS[0])
    assert (tmp_path / "statistics").read_text() == "in the way"


def test_statistics_leave_with_their_adapter(tmp_path):
    gallery = Gallery.open(Settings(data_dir=tmp_path))
    try:
        entries = [gallery.add(build_adapter(i)) for i in range(2)]
        shas = sorted(gallery.digest(entry.id) for entry in entries)
        fill(gallery.statistics, shas)
        gallery.tidy()
        assert gallery.statistics.has(shas)
        gallery.delete(entries[0].id)
        gallery.tidy()
        assert gallery.statistics.has(shas), "it can still be restored"
        gallery.purge(entries[0].id)
        left = [gallery.digest(entries[1].id)]
        assert gallery.statistics.has(left)
        assert len(list(gallery.statistics.root.rglob("*.stats"))) == 1
    finally:
        gallery.close()
