"""Galleries written by earlier versions open with everything in them.

`written_by/schema_N` holds one as that version wrote it: the dump of its database, and its files.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import DBAPIError

from lora_studio.gallery import Gallery, tables
from lora_studio.settings import Settings
from tests.unit.gallery.conftest import build_image_adapter

HOME = Path(__file__).with_name("written_by")
EVER = 1e12  # seconds; what was deleted when the fixture was written is to stay
FOUND = "d5142efb332018f3f01293225574219dda683faa9ccebb2dbb473dedf378bdb6"


def lay_out(settings: Settings, schema: int) -> Path:
    """Puts the gallery of an earlier version where today's looks for it; its database."""
    source, folder = HOME / f"schema_{schema}", settings.data_dir / "gallery"
    for suffix, shelf in ((".safetensors", "blobs"), (".png", "thumbnails")):
        for file in source.glob(f"*{suffix}"):
            place = folder / shelf / file.name[:2] / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "gallery.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript((source / "gallery.sql").read_text("utf-8"))
        connection.execute("PRAGMA journal_mode=WAL")
    return database


def schema_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT value FROM counters WHERE name = 'schema'")
        return found.fetchone()[0]


def columns(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(adapters)")}


def test_every_earlier_schema_has_its_gallery_here() -> None:
    assert {p.name for p in HOME.iterdir()} == {f"schema_{n}" for n in range(1, tables.SCHEMA)}


@pytest.mark.parametrize("schema", range(1, tables.SCHEMA))
def test_an_earlier_gallery_opens_with_everything_in_it(settings: Settings, schema: int) -> None:
    database = lay_out(settings, schema)
    assert schema_of(database) == schema
    gallery = Gallery.open(settings, tombstone_grace=EVER)
    shown = ["Past tense"] if schema == 1 else ["Neon", "Past tense"]
    assert sorted(hit.entry.title for hit in gallery.search().hits) == shown
    near = gallery.search(vector=np.array([1.0, 1.0, 0.0])).hits[0]
    assert (near.entry.id, near.reason) == (FOUND, "he eats")
    assert near.similarity == pytest.approx(1)
    entry = gallery.get(FOUND)
    assert (entry.owner, entry.tags, entry.modality) == ("ann", ("grammar",), "text")
    assert gallery.tests(FOUND) == [{"prompt": "he eats", "target": "he ate"}]
    assert gallery.get_recipe("r1")["result"] == {"rank": 2}
    assert gallery.get_note("demo") == "v1"
    with gallery._store.read() as connection:
        ids = connection.exec_driver_sql("SELECT id, title FROM adapters").all()
    named = {title: adapter_id for adapter_id, title in ids}
    assert gallery.restore(named["Deleted"]).deleted is False
    for adapter_id in named.values():
        assert gallery.adapter(adapter_id).id == adapter_id, "an id means the same as it did"
    assert gallery.damaged() == []
    if schema >= 2:
        assert gallery.thumbnail_path(named["Neon"]).is_file()
    gallery.add(build_image_adapter(7, title="Ink"))
    gallery.close()
    assert schema_of(database) == tables.SCHEMA
    assert columns(database) == {column.name for column in tables.adapters.columns}


@pytest.mark.parametrize("schema", range(1, tables.SCHEMA))
def test_an_upgrade_that_fails_leaves_the_gallery_as_it_was(
    settings: Settings, schema: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = lay_out(settings, schema)
    before = columns(database)
    steps = {**tables.ADDED, tables.SCHEMA: (*tables.ADDED[tables.SCHEMA], "no such statement")}
    with monkeypatch.context() as patch:
        patch.setattr(tables, "ADDED", steps)
        with pytest.raises(DBAPIError):
            Gallery.open(settings, tombstone_grace=EVER)
    assert (schema_of(database), columns(database)) == (schema, before)
    gallery = Gallery.open(settings, tombstone_grace=EVER)
    assert gallery.adapter(FOUND).id == FOUND
    gallery.close()
