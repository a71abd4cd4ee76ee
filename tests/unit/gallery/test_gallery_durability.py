"""What was acknowledged survives a full disk and a lost cache; tests/faults kills processes."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import LoraStudioError, StorageFull
from lora_studio.gallery import Gallery
from lora_studio.gallery.store import Store
from lora_studio.settings import Settings


def rows(gallery: Gallery) -> dict[str, str]:
    """Digest of the file of every row, deleted ones included."""
    with gallery._store.read() as connection:
        found = connection.exec_driver_sql("SELECT id, blob FROM adapters").all()
    return {row[0]: row[1] for row in found}


def broken(gallery: Gallery) -> list[str]:
    """Rows whose file is missing or has another digest."""
    wrong = []
    for adapter_id, sha in rows(gallery).items():
        path = gallery._blobs.path(sha)
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha:
            wrong.append(adapter_id)
    return wrong


def files(settings: Settings) -> list[Path]:
    return [p for p in (settings.data_dir / "gallery" / "blobs").rglob("*") if p.is_file()]


def test_the_file_is_safe_before_the_row_and_the_row_before_the_answer(
    settings: Settings, make_adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.open(settings)
    steps: list[str] = []

    def noted(name: str, real: Callable) -> Callable:
        def call(*args):
            result = real(*args)
            is_folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}")
            steps.append("fsync folder" if is_folder else name)
            return result

        return call

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", noted("rename", os.replace))
    monkeypatch.setattr(gallery, "_commit", noted("commit", gallery._commit))
    gallery.add(make_adapter(1))
    assert steps[:2] == ["fsync", "rename"]
    assert steps.count("fsync folder") == 2
    assert steps[-1] == "commit"
    gallery.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_leaves_nothing(
    settings: Settings, make_adapter, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    gallery = Gallery.open(settings)
    kept = gallery.add(make_adapter(1, title="Kept"))

    def full(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull, match="free some space"):
            gallery.add(make_adapter(2))
    assert [p.stem for p in files(settings)] == list(rows(gallery).values())
    assert [hit.entry.id for hit in gallery.search("kept").hits] == [kept.id]
    assert gallery.add(make_adapter(2)).id in rows(gallery)
    gallery.close()


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1500, 20_000, 60_000])
def test_when_the_system_refuses_to_write_nothing_is_half_written(
    settings: Settings, make_adapter, room: int
) -> None:
    gallery = Gallery.open(settings)
    kept = gallery.add(make_adapter(0, title="Kept", samples=("x",) * 20))
    added: list[str] = []

    def add_many() -> None:
        for seed in range(1, 200):
            added.append(gallery.add(make_adapter(seed, description="word " * 200)).id)

    with no_file_over(room), pytest.raises(StorageFull):
        add_many()
    assert gallery.search("kept").hits[0].entry.id == kept.id
    assert set(added) | {kept.id} == rows(gallery).keys()
    assert broken(gallery) == []
    later = gallery.add(make_adapter(500))
    gallery.close()
    again = Gallery.open(settings, orphan_grace=-1)
    assert {*added, kept.id, later.id} == rows(again).keys()
    assert {p.stem for p in files(settings)} == set(rows(again).values())
    again.close()


def test_a_full_disk_does_not_keep_the_gallery_shut(
    settings: Settings,
    make_adapter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gallery = Gallery.open(settings)
    kept, gone = gallery.add(make_adapter(1, title="Kept")), gallery.add(make_adapter(2))
    gallery.delete(gone.id)
    gallery.close()

    def full(*_args: object) -> None:
        raise StorageFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "purge", full)
        opened = Gallery.open(settings, tombstone_grace=-1)
    assert [hit.entry.id for hit in opened.search("kept").hits] == [kept.id]
    assert opened.adapter(kept.id).id == kept.id
    assert "could not be removed" in caplog.text
    opened.close()
    later = Gallery.open(settings, tombstone_grace=-1)
    assert rows(later).keys() == {kept.id}
    later.close()


def test_a_row_that_cannot_be_committed_takes_its_file_along(
    settings: Settings, make_adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.open(settings)

    def full(*_args: object) -> None:
        raise StorageFull("full")

    monkeypatch.setattr(gallery._store, "insert", full)
    with pytest.raises(StorageFull):
        gallery.add(make_adapter(1))
    assert files(settings) == []
    gallery.close()


def test_left_over_files_go_only_after_the_grace(settings: Settings, make_adapter) -> None:
    gallery = Gallery.open(settings)
    kept = gallery.add(make_adapter(1))
    path = gallery.blob_path(kept.id)
    gallery.close()
    blobs = settings.data_dir / "gallery" / "blobs"
    orphan = blobs / "ab" / f"ab{'0' * 62}.safetensors"
    orphan.parent.mkdir(exist_ok=True)
    old, young = blobs / "tmp" / "old", blobs / "tmp" / "young"
    for left in (orphan, old, young):
        left.write_bytes(b"x")
    for left in (orphan, old, path):
        os.utime(left, (0, 0))
    beside = Gallery.open(settings, orphan_grace=1e12)
    young.write_bytes(b"x")
    Gallery.open(settings).close()
    assert set(files(settings)) == {path, young}, "another process may be writing the young one"
    beside.close()
    Gallery.open(settings).close()
    assert set(files(settings)) == {path}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(LoraStudioError, match=f"{settings.data_dir}.*LORA_STUDIO_DATA"):
        Gallery.open(settings)


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(LoraStudioError, match="LORA_STUDIO_DATA"):
        Gallery.open(Settings(data_dir=tmp_path / "data"))


def test_a_damaged_database_says_what_to_do(settings: Settings, make_adapter) -> None:
    gallery = Gallery.open(settings)
    gallery.add(make_adapter(1))
    gallery.close()
    database = settings.data_dir / "gallery" / "gallery.sqlite"
    damaged = bytearray(database.read_bytes())
    damaged[100:] = os.urandom(len(damaged) - 100)
    database.write_bytes(damaged)
    with pytest.raises(LoraStudioError, match="from a copy"):
        Gallery.open(settings).search("x")


def filled(settings: Settings, make_adapter, count: int = 5) -> np.ndarray:
    """Fills a gallery, closes it, returns the (count, 8) vectors."""
    vectors = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    gallery = Gallery.open(settings)
    for seed in range(count):
        entry = gallery.add(make_adapter(seed, title=str(seed), samples=("x",)))
        gallery.set_vectors(entry.id, "minilm", vectors[seed : seed + 1], "samples")
    gallery.close()
    return vectors


def finds_all(gallery: Gallery, vectors: np.ndarray) -> bool:
    firsts = [gallery.search(vector=vector).hits[0] for vector in vectors]
    right = [hit.entry.title == str(seed) for seed, hit in enumerate(firsts)]
    return all(right) and all((hit.similarity or 0) > 0.999 for hit in firsts)


def deleted(cache: Path) -> None:
    cache.unlink()


def truncated(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-10])


def altered(cache: Path) -> None:
    damaged = bytearray(cache.read_bytes())
    damaged[-40] ^= 0x40
    cache.write_bytes(damaged)


def stale(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes().replace(b"minilm:", b"minilm:9", 1))


def rubbish(cache: Path) -> None:
    cache.write_bytes(os.urandom(5000))


@pytest.mark.parametrize("harm", [deleted, truncated, altered, stale, rubbish])
def test_a_lost_or_damaged_cache_is_rebuilt_from_the_database(
    settings: Settings, make_adapter, harm: Callable[[Path], None]
) -> None:
    vectors = filled(settings, make_adapter)
    cache = settings.data_dir / "gallery" / "vectors.index"
    harm(cache)
    gallery = Gallery.open(settings)
    assert finds_all(gallery, vectors)
    gallery.close()
    before = cache.stat().st_mtime_ns
    Gallery.open(settings).close()
    assert cache.stat().st_mtime_ns == before, "a good cache is used, not written again"


def test_a_cache_older_than_the_database_is_not_used(settings: Settings, make_adapter) -> None:
    vectors = filled(settings, make_adapter)
    cache = settings.data_dir / "gallery" / "vectors.index"
    old = cache.read_bytes()
    gallery = Gallery.open(settings)
    entry = gallery.search("3").hits[0].entry
    vectors[3] = np.arange(8) - 3.0
    gallery.set_vectors(entry.id, "minilm", vectors[3:4], "samples")
    gallery.close()
    cache.write_bytes(old)
    again = Gallery.open(settings)
    assert finds_all(again, vectors)
    again.close()


def test_another_embedder_has_an_index_of_its_own(settings: Settings, make_adapter) -> None:
    filled(settings, make_adapter)
    other = Gallery.open(Settings(data_dir=settings.data_dir, embedder="other"))
    assert other.search(vector=np.ones(8)).mode == "all"
    assert len(other.pending_vectors("other")) == 5
    other.close()
    back = Gallery.open(settings)
    assert back.search(vector=np.ones(8)).mode == "semantic"
    back.close()
