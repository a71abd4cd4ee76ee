"""Taking a copy of a gallery while a studio runs, and putting one back.

SQLite copies the rows as they stand at one moment, stored files never change, and what a copy says
is believed only after its digest was compared.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from lora_studio.errors import InvalidRequest, LoraStudioError, NotFound
from lora_studio.fitted import FOLDER as FITTED
from lora_studio.gallery.blobs import PICTURES, BlobStore, sync
from lora_studio.gallery.copies import Copy, CopyWriter, DamagedCopy, is_named, writing
from lora_studio.gallery.failures import storage_errors
from lora_studio.gallery.presence import Presence, using
from lora_studio.gallery.tables import DATABASE, FOLDER, SCHEMA
from lora_studio.settings import Settings

_RESTORING = "gallery.restoring-"


@dataclass(frozen=True)
class Backup:
    """What a copy holds.

    Args:
        adapters: rows, deleted ones that can still be restored included.
        files, bytes: stored files and their size.
        left_out: titles of adapters whose file was missing or altered when the copy was taken.
    """

    adapters: int
    files: int
    bytes: int
    left_out: tuple[str, ...]


def back_up(settings: Settings, target: Path) -> Backup:
    """Copies the gallery to `target`, a folder or a name ending in .zip; a studio may be running.
    What was fitted here, which no upload brings back, is in the copy too.

    Raises:
        NotFound: there is no gallery.
        InvalidRequest: there is something at `target`, or it lies inside the gallery.
        StorageFull: no room; nothing is left behind.
    """
    home = settings.data_dir / FOLDER
    if not (home / DATABASE).is_file():
        raise NotFound(f"There is no gallery in {settings.data_dir}. Set LORA_STUDIO_DATA.")
    target = target.absolute()
    if target.is_relative_to(home):
        raise InvalidRequest("A copy cannot lie inside the gallery. Name another place.")
    stores = (BlobStore(home / "blobs"), BlobStore(home / "thumbnails", PICTURES))
    with (
        using(settings.data_dir),
        writing(target) as copy,
        TemporaryDirectory(dir=target.parent) as scratch,
    ):
        rows = Path(scratch) / DATABASE
        with closing(_read_only(home / DATABASE)) as live:
            live.execute("VACUUM INTO ?", (str(rows),))
        count, lost = _put_files(copy, rows, home / DATABASE, stores)
        copy.put(DATABASE, rows)
        for path in sorted((settings.data_dir / FITTED).glob("*")):
            if is_named(name := f"{FITTED}/{path.name}"):
                copy.put(name, path)
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "schema": _schema(rows),
            "adapters": count,
            "left_out": lost,
        }
        copy.finish(facts)
    with Copy(target) as done:
        return _told(done)


def _put_files(
    copy: CopyWriter, rows: Path, live: Path, stores: tuple[BlobStore, BlobStore]
) -> tuple[int, dict[str, str]]:
    """Copies the files of all rows; number of rows, and id -> title of what had no whole file."""
    lost: dict[str, str] = {}
    known: set[str] = set()
    with closing(sqlite3.connect(rows)) as snapshot:
        found = list(_files(snapshot))
        for adapter_id, title, *digests in found:
            for store, sha in zip(stores, digests, strict=True):
                if not sha or sha in known:
                    continue
                if _put_whole(copy, store, sha):
                    known.add(sha)
                elif store is stores[0]:
                    lost[adapter_id] = title
        purged = _without_row(live, lost)
        snapshot.execute("PRAGMA foreign_keys=ON")
        snapshot.execute("PRAGMA secure_delete=ON")
        for adapter_id in purged:  # by an operator, while this was running
            snapshot.execute("DELETE FROM adapters WHERE id = ?", (adapter_id,))
            del lost[adapter_id]
        snapshot.commit()
    return len(found) - len(purged), lost


def _put_whole(copy: CopyWriter, store: BlobStore, sha: str) -> bool:
    try:
        return store.intact(sha) and copy.put(_name(store, sha), store.path(sha)) == sha
    except FileNotFoundError:  # purged since it was found intact
        return False


def _name(store: BlobStore, sha: str) -> str:
    return store.path(sha).relative_to(store.root.parent).as_posix()


def _files(rows: sqlite3.Connection) -> Iterator[tuple[str, str, str, str]]:
    """(id, title, blob, thumbnail) of every row of a database of this or an earlier schema."""
    columns = {row[1] for row in rows.execute("PRAGMA table_info(adapters)")}
    picture = "thumbnail" if "thumbnail" in columns else "''"
    yield from rows.execute(f"SELECT id, title, blob, {picture} FROM adapters ORDER BY id")


def _without_row(live: Path, ids: dict[str, str]) -> list[str]:
    with closing(_read_only(live)) as connection:
        query = "SELECT count(*) FROM adapters WHERE id = ?"
        return [i for i in ids if not connection.execute(query, (i,)).fetchone()[0]]


def _schema(rows: Path) -> int:
    with closing(_read_only(rows)) as connection:
        return connection.execute("SELECT value FROM counters WHERE name = 'schema'").fetchone()[0]


def _read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=30)


def restore(path: Path, settings: Settings, *, replace: bool = False) -> tuple[Backup, Path | None]:
    """Puts a copy in the place of the gallery, once every digest in it proved right.

    All of it is written beside the gallery, checked, and takes its place by a rename. What the
    copy has fitted takes the place of what is there, which is kept beside it as fitted.before-...

    Args:
        replace: take the place of a gallery that is there, which is kept under another name.

    Returns:
        What was restored, and where the gallery that was there before is now.

    Raises:
        DamagedCopy: the copy is not whole; nothing was changed.
        InvalidRequest: there is a gallery and `replace` was not asked for.
        LoraStudioError: a running studio uses the gallery, or the copy is of a newer version.
    """
    home = settings.data_dir / FOLDER
    with storage_errors(), Copy(path) as copy:
        if int(copy.facts["schema"]) > SCHEMA:
            raise LoraStudioError("The backup was made by a newer LoRA Studio. Update this one.")
        if (home / DATABASE).exists() and not replace:
            raise InvalidRequest(
                f"There is a gallery in {settings.data_dir} already. Set LORA_STUDIO_DATA to an "
                "empty folder, or add --replace; what is there now is then kept beside it."
            )
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        presence = Presence(settings.data_dir, only=True)
        try:
            for left in settings.data_dir.glob(f"{_RESTORING}*"):
                shutil.rmtree(left, ignore_errors=True)
            fresh = settings.data_dir / f"{_RESTORING}{uuid4().hex[:8]}"
            try:
                _unpack(copy, fresh)
                before = _swap(fresh, home)
                if (home / FITTED).exists():
                    _swap(home / FITTED, settings.data_dir / FITTED)
                return _told(copy), before
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        finally:
            presence.close()


def _unpack(copy: Copy, folder: Path) -> None:
    for name in copy.files:
        copy.take(name, folder / name)
    problems = check_rows(copy, folder / DATABASE)
    if problems:
        raise DamagedCopy(f"The backup is damaged: {problems[0]}.")
    for part in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        sync(part)


def check_rows(copy: Copy, rows: Path) -> list[str]:
    """What is wrong with the database of a copy, or between it and the copy's files."""
    with closing(_read_only(rows)) as connection:
        try:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
            if found != ["ok"]:
                return found
            listed = list(_files(connection))
        except sqlite3.DatabaseError as error:
            return [str(error)]
    here = {Path(name).stem for name in copy.files}
    known = set(copy.facts["left_out"])
    return [
        f"the file of '{title}' is not in it"
        for adapter_id, title, sha, _ in listed
        if sha not in here and adapter_id not in known
    ]


def check_copy(path: Path) -> tuple[Backup, list[str]]:
    """What a copy holds and what is wrong with it, without restoring it."""
    with Copy(path) as copy, TemporaryDirectory() as scratch:
        problems = [f"{name} is missing or altered" for name in copy.damaged()]
        if not problems:
            copy.take(DATABASE, Path(scratch) / DATABASE)
            problems = check_rows(copy, Path(scratch) / DATABASE)
        return _told(copy), problems


def _swap(fresh: Path, home: Path) -> Path | None:
    before: Path | None = None
    if home.exists() and any(home.iterdir()):
        before = home.with_name(time.strftime(f"{home.name}.before-%Y%m%d-%H%M%S"))
        os.rename(home, before)
    try:
        os.replace(fresh, home)
    except OSError:
        if before is not None:
            os.rename(before, home)
        raise
    sync(home.parent)
    return before


def _told(copy: Copy) -> Backup:
    size = sum(size for _, size in copy.files.values())
    lost = tuple(copy.facts["left_out"].values())
    return Backup(int(copy.facts["adapters"]), len(copy.files), size, lost)
