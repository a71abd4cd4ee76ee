"""Abandoned uploads and the files of old jobs do not fill the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import janitor
from lora_studio.studio.janitor import Janitor

OLD = time.time() - 2 * 3600


@pytest.fixture
def keeper(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    gallery = Gallery.open(settings)
    yield Janitor(settings, gallery), settings, gallery
    gallery.close()


def leave(path: Path, when: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (when, when))
    return path


def test_what_was_left_an_hour_ago_goes_and_what_is_in_use_stays(keeper) -> None:
    cleaner, settings, _ = keeper
    now = time.time()
    old = [
        leave(settings.uploads_dir / "tmpabc", OLD),
        leave(settings.scratch_dir / "exports" / "a.zip", OLD),
    ]
    whole = leave(settings.uploads_dir / "hash" / "adapter.zip", OLD)
    os.utime(whole.parent, (OLD, OLD))
    young = [
        leave(settings.uploads_dir / "tmpdef", now),
        leave(settings.scratch_dir / "images" / "b.png", now),
    ]
    assert cleaner.round() == 3
    assert not any(path.exists() for path in (*old, whole))
    assert all(path.exists() for path in young)


def test_uploads_of_dead_processes_go_at_the_start_and_our_own_at_the_end(keeper) -> None:
    cleaner, settings, _ = keeper
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = leave(settings.uploads_dir.parent / done.stdout.decode().strip() / "tmpabc", OLD)
    alive = leave(settings.uploads_dir.parent / str(os.getppid()) / "tmpabc", OLD)
    cleaner.start()
    assert not dead.parent.exists()
    assert alive.exists()
    mine = leave(settings.uploads_dir / "tmpdef", OLD)
    cleaner.close()
    assert not mine.exists()
    assert alive.exists()


def test_it_goes_round_by_itself_and_survives_trouble(keeper, monkeypatch) -> None:
    cleaner, _, gallery = keeper
    tidied: list[int] = []

    def tidy() -> None:
        tidied.append(1)
        raise OSError("the disk is away")

    monkeypatch.setattr(janitor, "EVERY", 0.01)
    monkeypatch.setattr(janitor, "TIDY_ROUNDS", 2)
    monkeypatch.setattr(gallery, "tidy", tidy)
    cleaner.start()
    end = time.monotonic() + 10
    while len(tidied) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    cleaner.close()
    assert len(tidied) >= 3
