"""A copy of a gallery holds everything, is taken while it is used, and is restored whole or not."""

from __future__ import annotations

import io
import os
import random
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from lora_studio import cli
from lora_studio.errors import InvalidRequest, LoraStudioError, NotFound, StorageFull
from lora_studio.gallery import Gallery
from lora_studio.gallery import copies as copies_module
from lora_studio.gallery.backup import back_up, check_copy, restore
from lora_studio.gallery.blobs import BlobStore
from lora_studio.gallery.copies import DamagedCopy
from lora_studio.settings import Settings
from tests.figures import cases, record
from tests.unit.gallery.test_gallery_durability import no_file_over
from tests.unit.gallery.test_gallery_migrations import lay_out
from tests.unit.gallery.test_gallery_upkeep import flip

Harm = Callable[[Path, random.Random], None]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "elsewhere")


def fill(gallery: Gallery, make_adapter, count: int = 6) -> list[str]:
    ids = []
    for seed in range(count):
        adapter = make_adapter(seed, title=f"Number {seed}", samples=("x",))
        picture = b"picture" if seed % 2 else b""
        tests = [{"prompt": str(seed), "target": "y"}]
        ids.append(gallery.add(adapter, owner="ann", tests=tests, thumbnail=picture).id)
        gallery.set_vectors(ids[-1], "minilm", np.eye(8)[seed : seed + 1], "samples")
    gallery.delete(ids[0])
    gallery.put_recipe("r1", "method: cat\n", {"rank": 2}, ids[1])
    return ids


@pytest.mark.parametrize("name", ["copy.zip", "copy"])
def test_a_restored_gallery_has_everything(
    settings: Settings, elsewhere: Settings, gallery: Gallery, make_adapter, tmp_path, name: str
) -> None:
    ids = fill(gallery, make_adapter)
    done = back_up(settings, tmp_path / "deep" / name)
    assert (done.adapters, done.left_out) == (6, ())
    assert done.files == 1 + 6 + 1, "rows, weights, and one picture shared by three"
    assert check_copy(tmp_path / "deep" / name)[1] == []
    told, before = restore(tmp_path / "deep" / name, elsewhere)
    assert (told, before) == (done, None)
    again = Gallery.open(elsewhere)
    shown = [{h.entry.id: h.entry for h in one.search().hits} for one in (again, gallery)]
    assert shown[0] == shown[1]
    assert again.restore(ids[0]).title == "Number 0"
    assert all(again.adapter(i).id == i for i in ids)
    assert again.tests(ids[2]) == [{"prompt": "2", "target": "y"}]
    assert again.search(vector=np.eye(8)[3]).hits[0].entry.id == ids[3]
    assert again.thumbnail_path(ids[1]).read_bytes() == b"picture"
    assert again.get_recipe("r1")["adapter_id"] == ids[1]
    if os.name != "nt":
        assert again.blob_path(ids[1]).stat().st_mode & 0o777 == 0o444
    again.close()


def test_what_was_fitted_is_in_the_copy(
    settings: Settings, elsewhere: Settings, gallery: Gallery, make_adapter, tmp_path: Path
) -> None:
    fill(gallery, make_adapter)
    fitted = settings.data_dir / "fitted"
    fitted.mkdir()
    (fitted / "gate.someone--model-1.5.safetensors").write_bytes(b"gate")
    (fitted / "half-written.tmp").write_bytes(b"no gate")
    done = back_up(settings, tmp_path / "copy.zip")
    assert done.files == 9
    assert check_copy(tmp_path / "copy.zip")[1] == []
    restore(tmp_path / "copy.zip", elsewhere)
    found = elsewhere.data_dir / "fitted"
    assert [file.name for file in found.iterdir()] == ["gate.someone--model-1.5.safetensors"]
    (found / "gate.someone--model-1.5.safetensors").write_bytes(b"newer")  # fitted again
    restore(tmp_path / "copy.zip", elsewhere, replace=True)
    (kept,) = elsewhere.data_dir.glob("fitted.before-*")
    assert [file.read_bytes() for file in kept.iterdir()] == [b"newer"]
    assert [file.read_bytes() for file in found.iterdir()] == [b"gate"]
    assert not (elsewhere.data_dir / "gallery" / "fitted").exists()
    Gallery.open(elsewhere).close()


def test_a_copy_taken_while_others_write_is_consistent(
    settings: Settings, gallery: Gallery, make_adapter, tmp_path: Path
) -> None:
    fill(gallery, make_adapter)
    stop, added = threading.Event(), list[str]()

    def write() -> None:
        seed = 100
        while not stop.is_set():
            added.append(gallery.add(make_adapter(seed, samples=("x",))).id)
            if seed % 3 == 0:
                gallery.purge(added.pop(len(added) // 2))
            seed += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(6):
            while len(added) <= number and writer.is_alive():
                time.sleep(0.01)
            acknowledged = set(added)
            target = tmp_path / f"{number}.zip"
            back_up(settings, target)
            done, problems = check_copy(target)
            assert problems == []
            assert done.left_out == ()
            assert done.adapters >= 6 + len(acknowledged & set(added))
    finally:
        stop.set()
        writer.join()
    assert len(added) > 5
    restore(target, Settings(data_dir=tmp_path / "again"))
    Gallery.open(Settings(data_dir=tmp_path / "again")).close()


def test_an_adapter_purged_just_before_its_file_is_copied_is_not_in_the_copy(
    settings: Settings,
    gallery: Gallery,
    make_adapter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = fill(gallery, make_adapter)
    file = gallery.blob_path(ids[3])
    intact = BlobStore.intact

    def then_purged(store: BlobStore, sha: str) -> bool:
        found = intact(store, sha)
        if store.path(sha) == file:
            monkeypatch.undo()
            gallery.purge(ids[3])
        return found

    monkeypatch.setattr(BlobStore, "intact", then_purged)
    done = back_up(settings, tmp_path / "copy.zip")
    assert (done.adapters, done.left_out) == (5, ())
    assert check_copy(tmp_path / "copy.zip")[1] == []


def flipped(path: Path, rng: random.Random) -> None:
    """One byte of a random file of the copy, or of the zip, is another one."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    file = rng.choice(files)
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.chmod(0o644)
    file.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    file = rng.choice(files)
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[: -rng.randrange(1, 200)])


def removed(path: Path, rng: random.Random) -> None:
    if path.is_file():
        path.write_bytes(b"")
    else:
        rng.choice(sorted(p for p in path.rglob("*") if p.is_file())).unlink()


HARMS: tuple[Harm, ...] = (flipped, flipped, cut, removed)


def believed(good: Path, harm: Harm, rng: random.Random, there: Settings) -> bool:
    """Whether a copy harmed in this way was restored; if not, nothing may be in its place."""
    bad = there.data_dir.parent / f"bad-{good.name}"
    (shutil.copytree if good.is_dir() else shutil.copyfile)(good, bad)
    harm(bad, rng)
    try:
        restore(bad, there)
    except LoraStudioError:
        assert not (there.data_dir / "gallery").exists()
        return False
    finally:
        shutil.rmtree(bad) if bad.is_dir() else bad.unlink()
    return True


def test_damage_anywhere_in_a_copy_is_found_and_nothing_is_put_in_place(
    settings: Settings, elsewhere: Settings, gallery: Gallery, make_adapter, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    start = time.perf_counter()
    fill(gallery, make_adapter)
    expected = rows(settings)
    rng, harmless = random.Random(0), 0
    copies = [tmp_path / "copy", tmp_path / "copy.zip"]
    for copy in copies:
        back_up(settings, copy)
    wrong = {"ours": 0, "control": 0}
    total = cases(60, 1000)
    for number in range(total):
        if believed(copies[number % 2], HARMS[number // 2 % len(HARMS)], rng, elsewhere):
            harmless += 1  # a bit of the zip that says nothing about the files, such as a date
            wrong["ours"] += rows(elsewhere) != expected
        shutil.rmtree(elsewhere.data_dir, ignore_errors=True)
    with monkeypatch.context() as patch:
        patch.setattr(copies_module, "_copy", lambda source, out, limit=None: _Equal(source, out))
        for _ in range(20):
            wrong["control"] += believed(copies[0], flipped, rng, elsewhere)
            shutil.rmtree(elsewhere.data_dir, ignore_errors=True)
    record(
        "T12 damaged backups",
        count=total,
        failures=wrong["ours"],
        seconds=time.perf_counter() - start,
        control=f"digests not compared: {wrong['control']} of 20 flipped copies were restored",
        without_effect=harmless,
    )
    assert wrong["ours"] == 0
    assert harmless < total / 4
    assert wrong["control"] > 0


class _Equal(tuple):
    """A digest that is whatever is expected."""

    def __new__(cls, source: BinaryIO, out: BinaryIO) -> _Equal:
        out.write(source.read())
        return super().__new__(cls)

    def __ne__(self, _other: object) -> bool:
        return False


def rows(settings: Settings) -> dict[str, bytes]:
    """Id of every adapter and the bytes of its file."""
    opened = Gallery.open(settings)
    found = {h.entry.id: opened.blob_path(h.entry.id).read_bytes() for h in opened.search().hits}
    opened.close()
    return found


def test_a_damaged_adapter_is_left_out_and_named(
    settings: Settings, elsewhere: Settings, gallery: Gallery, make_adapter, tmp_path: Path
) -> None:
    ids = fill(gallery, make_adapter)
    flip(gallery.blob_path(ids[2]))
    assert back_up(settings, tmp_path / "copy").left_out == ("Number 2",)
    told, _ = restore(tmp_path / "copy", elsewhere)
    assert told.left_out == ("Number 2",)
    again = Gallery.open(elsewhere)
    assert [entry.id for entry in again.damaged()] == [ids[2]]
    assert again.search().total == 4
    again.close()


@pytest.mark.parametrize("schema", [1, 2])
def test_a_gallery_is_copied_before_it_is_upgraded(
    settings: Settings, elsewhere: Settings, tmp_path: Path, schema: int
) -> None:
    lay_out(settings, schema)
    assert back_up(settings, tmp_path / "copy.zip").adapters == 2 + schema
    restore(tmp_path / "copy.zip", elsewhere)
    again = Gallery.open(elsewhere, tombstone_grace=1e12)
    assert again.search().total == schema
    again.close()


def test_nothing_is_written_over(
    settings: Settings, elsewhere: Settings, gallery: Gallery, make_adapter, tmp_path: Path
) -> None:
    fill(gallery, make_adapter)
    back_up(settings, tmp_path / "copy")
    with pytest.raises(InvalidRequest, match="Name another place"):
        back_up(settings, tmp_path / "copy")
    with pytest.raises(InvalidRequest, match="inside the gallery"):
        back_up(settings, settings.data_dir / "gallery" / "copy")
    with pytest.raises(InvalidRequest, match="--replace"):
        restore(tmp_path / "copy", settings)
    with pytest.raises(LoraStudioError, match="Stop it"):
        restore(tmp_path / "copy", settings, replace=True)
    gallery.close()
    young = Gallery.open(settings)
    kept = young.add(make_adapter(50))
    young.close()
    _, before = restore(tmp_path / "copy", settings, replace=True)
    assert before is not None
    back = Gallery.open(settings)
    with pytest.raises(NotFound):
        back.get(kept.id)
    back.close()
    shutil.move(before, elsewhere.data_dir / "gallery")
    there = Gallery.open(elsewhere)
    assert there.adapter(kept.id).id == kept.id
    there.close()


@pytest.mark.parametrize("name", ["copy", "copy.zip"])
def test_a_backup_without_room_leaves_nothing(
    settings: Settings, gallery: Gallery, make_adapter, tmp_path: Path, name: str
) -> None:
    gallery.add(make_adapter(0))
    gallery.add(make_adapter(1, rank=20, layers=120))
    home = tmp_path / "copies"
    with no_file_over(150_000), pytest.raises(StorageFull):
        back_up(settings, home / name)
    assert list(home.iterdir()) == []
    back_up(settings, home / name)
    assert [p.name for p in home.iterdir()] == [name]


def test_a_copy_that_names_a_file_outside_the_gallery_is_refused(
    elsewhere: Settings, tmp_path: Path
) -> None:
    from lora_studio.gallery.copies import writing

    (tmp_path / "evil").write_text("x")
    with writing(tmp_path / "copy.zip") as copy:
        copy.put("blobs/../../../evil", tmp_path / "evil")
        copy.finish({"schema": 1, "adapters": 0, "left_out": {}})
    with pytest.raises(DamagedCopy, match="no gallery has"):
        restore(tmp_path / "copy.zip", elsewhere)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("readme.txt", "x")
    with pytest.raises(DamagedCopy, match="not a whole backup"):
        restore(tmp_path / "other.zip", elsewhere)


class TestCommandLine:
    def run(self, settings: Settings, *words: str | Path) -> int:
        return cli.main([str(words[0]), "--data", str(settings.data_dir), *map(str, words[1:])])

    def test_backup_verify_restore(
        self, settings, elsewhere, gallery, make_adapter, tmp_path, capsys
    ) -> None:
        fill(gallery, make_adapter)
        copy = tmp_path / "copy.zip"
        assert self.run(settings, "backup", copy) == 0
        assert self.run(settings, "verify", copy) == 0
        assert self.run(elsewhere, "restore", copy) == 0
        assert self.run(elsewhere, "verify") == 0
        out = capsys.readouterr().out
        assert "Copied 6 adapters" in out
        assert "every digest was right" in out
        assert out.strip().endswith("all as they were stored.")

    def test_verify_names_what_is_damaged(self, settings, gallery, make_adapter, capsys) -> None:
        ids = fill(gallery, make_adapter)
        flip(gallery.blob_path(ids[3]))
        flip(gallery.thumbnail_path(ids[1]))
        assert self.run(settings, "verify") == 1
        out = capsys.readouterr().out
        assert f"the file of 'Number 3' ({ids[3]}) is missing or altered" in out
        assert out.count("the picture of") == 3
        assert "Number 4' (" not in out
        assert gallery.search().total == 4, "the running studio stopped showing it"

    def test_verify_tells_of_a_damaged_copy(
        self, settings, gallery, make_adapter, tmp_path, capsys
    ) -> None:
        fill(gallery, make_adapter)
        self.run(settings, "backup", tmp_path / "copy")
        flip(next((tmp_path / "copy" / "blobs").glob("*/*")))
        assert self.run(settings, "verify", tmp_path / "copy") == 1
        assert "is missing or altered" in capsys.readouterr().out

    def test_purge_asks_first(
        self, settings, gallery, make_adapter, capsys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = fill(gallery, make_adapter)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        assert self.run(settings, "purge", ids[1]) == 1
        assert gallery.has(ids[1])
        assert self.run(settings, "purge", "--yes", ids[1][:9], ids[0]) == 0
        assert not gallery.has(ids[1])
        with pytest.raises(NotFound):
            gallery.restore(ids[0])
        assert "Number 1" in capsys.readouterr().out

    def test_what_is_wrong_is_said_in_a_sentence(self, elsewhere, tmp_path, capsys) -> None:
        assert self.run(elsewhere, "verify") == 1
        assert self.run(elsewhere, "backup", tmp_path / "x") == 1
        assert self.run(elsewhere, "restore", tmp_path / "nothing.zip") == 1
        err = capsys.readouterr().err
        assert err.count("There is no gallery in") == 2
        assert "not a whole backup" in err
        assert not (elsewhere.data_dir / "gallery").exists()
