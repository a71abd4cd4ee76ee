"""What opening a gallery puts right, what it marks, and what an operator can remove for good."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import InvalidAdapter, LoraStudioError, NotFound
from lora_studio.gallery import Gallery
from lora_studio.gallery.measuring import measure_old
from lora_studio.gallery.presence import Presence
from lora_studio.gallery.store import Store
from lora_studio.gallery.upkeep import sqlite_warning
from lora_studio.settings import Settings


def flip(path: Path, at: int = -1) -> None:
    """Changes one bit of a stored file, as a failing disk would."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
def test_stored_files_are_read_only(gallery: Gallery, make_adapter) -> None:
    path = gallery.blob_path(gallery.add(make_adapter(1)).id)
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_damaged_adapter_stays_marked_until_its_file_is_back(
    settings: Settings, make_adapter
) -> None:
    first = Gallery.open(settings)
    hurt, whole = first.add(make_adapter(1, title="Hurt")), first.add(make_adapter(2))
    path = first.blob_path(hurt.id)
    good = path.read_bytes()
    flip(path)
    first.close()
    for _ in range(2):
        again = Gallery.open(settings)
        assert [entry.title for entry in again.damaged()] == ["Hurt"]
        assert [hit.entry.id for hit in again.search().hits] == [whole.id]
        assert path.exists(), "what is damaged is never deleted"
        again.close()
    path.write_bytes(good)
    healed = Gallery.open(settings)
    assert healed.damaged() == []
    assert healed.adapter(hurt.id).id == hurt.id
    assert healed.search().total == 2
    healed.close()


def test_damage_found_in_use_hides_the_adapter_for_all(settings: Settings, make_adapter) -> None:
    one, two = Gallery.open(settings), Gallery.open(settings)
    entry = one.add(make_adapter(1, title="Hurt"))
    flip(one.blob_path(entry.id))
    with pytest.raises(InvalidAdapter, match="Upload it again"):
        one.adapter(entry.id)
    assert two.search().total == 0
    assert [e.id for e in two.damaged()] == [entry.id]
    two.add(make_adapter(1, title="Hurt"))
    assert one.damaged() == []
    assert one.adapter(entry.id).id == entry.id
    one.close()
    two.close()


def test_tidying_a_running_gallery_finds_damage(gallery: Gallery, make_adapter) -> None:
    entry = gallery.add(make_adapter(1))
    flip(gallery.blob_path(entry.id))
    assert gallery.damaged() == []
    gallery.tidy()
    assert [e.id for e in gallery.damaged()] == [entry.id]


def test_a_purged_adapter_is_gone_with_its_bytes_at_once(settings: Settings, make_adapter) -> None:
    gallery = Gallery.open(settings)
    secret = "a name nobody may read again"
    entry = gallery.add(make_adapter(1, title=secret, samples=("x",)), thumbnail=b"picture")
    kept = gallery.add(make_adapter(2), thumbnail=b"picture")
    gallery.set_vectors(entry.id, "minilm", np.ones((1, 8)), "samples")
    path = gallery.blob_path(entry.id)
    gallery.purge(entry.id[:10])
    assert not path.exists()
    assert gallery.thumbnail_path(kept.id).exists(), "the other adapter shares the picture"
    for call in (gallery.get, gallery.restore, gallery.purge):
        with pytest.raises(NotFound):
            call(entry.id)
    gallery.close()
    left = [p for p in (settings.data_dir / "gallery").rglob("*") if p.is_file()]
    assert all(secret.encode() not in p.read_bytes() for p in left)
    assert all(entry.id.encode() not in p.read_bytes() for p in left if p.suffix != ".sqlite")


def test_a_deleted_adapter_can_be_purged_before_its_time(gallery: Gallery, make_adapter) -> None:
    entry = gallery.add(make_adapter(1))
    gallery.delete(entry.id)
    assert gallery.purge(entry.id).deleted
    with pytest.raises(NotFound):
        gallery.get(entry.id)


def test_a_database_with_a_damaged_page_is_refused_with_the_way_out(
    settings: Settings, make_adapter
) -> None:
    gallery = Gallery.open(settings)
    for seed in range(20):
        gallery.add(make_adapter(seed, description="word " * 400))
    gallery.close()
    database = settings.data_dir / "gallery" / "gallery.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_adapters_blob'"
        page = connection.execute(query).fetchone()[0]
    flip(database, (page - 1) * 4096 + 3)
    with pytest.raises(LoraStudioError, match="lora-studio restore"):
        Gallery.open(settings)


def test_a_failing_disk_is_told_from_a_full_one(
    gallery: Gallery, make_adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(LoraStudioError, match=r"The disk failed .*check the disk"):
            gallery.add(make_adapter(1))
    assert gallery.add(make_adapter(1)).id


def test_a_folder_sync_that_fails_leaves_no_file_that_looks_safe(
    gallery: Gallery, settings: Settings, make_adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fail_for_folders(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_folders)
        with pytest.raises(LoraStudioError, match="disk failed"):
            gallery.add(make_adapter(1), thumbnail=b"picture")
    folder = settings.data_dir / "gallery"
    assert [p for p in folder.glob("*/??/*") if p.is_file()] == []


def test_a_row_that_may_yet_be_committed_keeps_its_file(
    gallery: Gallery, settings: Settings, make_adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def sync_failed(*_args: object) -> None:
        broken = sqlite3.OperationalError("disk I/O error")
        broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise OperationalError("COMMIT", {}, broken)

    monkeypatch.setattr(Store, "insert", sync_failed)
    with pytest.raises(LoraStudioError, match="cannot be read or written"):
        gallery.add(make_adapter(1))
    assert len(list((settings.data_dir / "gallery" / "blobs").glob("??/*"))) == 1


@pytest.mark.skipif(os.name == "nt", reason="needs flock")
def test_who_is_alone_knows_it(tmp_path: Path) -> None:
    first = Presence(tmp_path)
    assert first.alone
    first.share()
    second = Presence(tmp_path)
    assert not second.alone
    with pytest.raises(LoraStudioError, match="Stop it and try again"):
        Presence(tmp_path, only=True)
    first.close()
    second.close()
    third = Presence(tmp_path, only=True)
    assert third.alone
    third.close()


@pytest.mark.parametrize(
    ("version", "told"),
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False)],
)
def test_an_sqlite_that_two_writers_can_hurt_is_named(version: tuple[int, ...], told: bool) -> None:
    text = sqlite_warning(version)
    assert bool(text) == told
    assert not told or ".".join(map(str, version)) in text


@pytest.mark.skipif(os.name == "nt", reason="locks of files")
def test_only_a_gallery_that_is_shared_is_warned_of(
    settings: Settings, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    one = Gallery.open(settings)
    assert "SQLite" not in caplog.text
    two = Gallery.open(settings)
    assert "SQLite 3.40.1 has a rare fault" in caplog.text
    two.close()
    one.close()


def test_rows_older_than_report_cards_get_one(gallery: Gallery, make_adapter) -> None:
    old = [gallery.add(make_adapter(seed, title=f"Old {seed}")) for seed in range(3)]
    figures = gallery.get(old[0].id).measures
    for entry in old:
        said = replace(entry, measures={"notes": ["kept"]}).to_dict()
        with gallery._store.write() as connection:
            gallery._store.touch(connection, entry.id, entry=json.dumps(said))
    again = gallery.add(make_adapter(0).scaled(2.0))
    assert gallery.twins(again.id) == []
    flip(gallery.blob_path(old[1].id))
    sizes = [entry.bytes for entry in old]
    assert measure_old(gallery._store, gallery.adapter, sum(sizes[:1])) == 1
    assert gallery.get(old[0].id).measures == {**figures, "notes": ["kept"]}
    assert [twin.title for twin in gallery.twins(again.id)] == ["Old 0"], "found without a restart"
    gallery.tidy()
    assert "sketch" in gallery.get(old[2].id).measures
    assert "sketch" not in gallery.get(old[1].id).measures, "it cannot be read"
    assert measure_old(gallery._store, gallery.adapter) == 0
