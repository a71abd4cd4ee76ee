"""The gallery's rows: one writer at a time, every commit synced, every change counted.

`generation` rises with each change of an adapter, so readers know what to read again; `purges`
rises when rows vanish; `vectors` rises with each change of what the search index holds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import randbits
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, insert, select, update
from sqlalchemy.sql import Select

from lora_studio.errors import LoraStudioError
from lora_studio.gallery import audit
from lora_studio.gallery import tables as t
from lora_studio.gallery.entry import Entry, state_of
from lora_studio.gallery.failures import storage_errors

_CHUNK = 500


@dataclass(frozen=True)
class Stored:
    """A row as the search needs it."""

    entry: Entry
    blob: str
    created: float
    changed: int


@dataclass(frozen=True)
class Files:
    """The files of one adapter, deleted or not.

    Args:
        blob, bytes: digest and size of its weights.
        thumbnail: digest of its picture, "" for none.
        damaged: whether its weights were found missing or altered.
    """

    id: str
    title: str
    blob: str
    bytes: int
    thumbnail: str
    damaged: bool


@dataclass(frozen=True)
class Changes:
    """What changed since a generation."""

    generation: int
    purges: int
    purged: bool
    rows: list[Stored]


class Store:
    """The database of one gallery.

    Args:
        path: the SQLite file.
        embedder_id: whose vectors are asked for when none is named.

    Raises:
        LoraStudioError: the file was written by a newer version.
    """

    def __init__(self, path: Path, embedder_id: str) -> None:
        self.embedder_id = embedder_id
        self._engine = t.open_engine(path)
        self._writing = threading.Lock()
        with self.write() as connection:
            t.metadata.create_all(connection)
            schema = counter(connection, "schema")
            if schema > t.SCHEMA:
                raise LoraStudioError(
                    f"The gallery at {path} was written by a newer LoRA Studio (schema {schema}). "
                    "Update LoRA Studio, or set LORA_STUDIO_DATA to another folder."
                )
            if not schema:
                bump(connection, "identity", randbits(48))
            elif schema < t.SCHEMA:
                t.upgrade(connection, schema)
            if schema < t.SCHEMA:
                bump(connection, "schema", t.SCHEMA - schema)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock; commits at the end, durable when it returns."""
        with storage_errors(), self._writing, self._engine.connect() as connection:
            connection = connection.execution_options(writer=True)
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view that never waits for the writer."""
        with storage_errors(), self._engine.connect() as connection:
            yield connection

    def changes(self, since: int, purges_seen: int) -> Changes:
        """Rows changed after generation `since`, tombstones included; none if rows vanished."""
        with self.read() as connection:
            generation = counter(connection, "generation")
            purges = counter(connection, "purges")
            rows: list[Stored] = []
            purged = since >= 0 and purges != purges_seen
            if generation != since and not purged:
                query = self._rows().where(t.adapters.c.changed > since)
                rows = [_stored(row) for row in connection.execute(query).mappings()]
        return Changes(generation, purges, purged, rows)

    def entries(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The entries of `ids`; what is gone is left out."""
        found: dict[str, Entry] = {}
        with self.read() as connection:
            for chunk in chunks(ids):
                query = self._rows().where(t.adapters.c.id.in_(chunk))
                for row in connection.execute(query).mappings():
                    found[row["id"]] = _stored(row).entry
        return found

    def without_vectors(self, embedder_id: str) -> list[Entry]:
        """Entries, not deleted, that this embedder has not placed yet, oldest first."""
        placed = select(t.vectors.c.adapter_id).where(t.vectors.c.embedder_id == embedder_id)
        query = self._rows().where(t.adapters.c.deleted.is_(None), t.adapters.c.id.not_in(placed))
        with self.read() as connection:
            rows = connection.execute(query.order_by(t.adapters.c.created)).mappings()
            return [_stored(row).entry for row in rows]

    def _rows(self) -> Select[Any]:
        same = and_(
            t.vectors.c.adapter_id == t.adapters.c.id,
            t.vectors.c.embedder_id == self.embedder_id,
        )
        joined = t.adapters.outerjoin(t.vectors, same)
        return select(t.adapters, t.vectors.c.source).select_from(joined)

    def find(self, connection: Connection, adapter_id: str) -> Stored | None:
        """The row of `adapter_id` inside a transaction."""
        row = connection.execute(self._rows().where(t.adapters.c.id == adapter_id)).mappings()
        first = row.first()
        return _stored(first) if first else None

    def insert(
        self, connection: Connection, entry: Entry, blob: str, tests: Iterable[Mapping[str, Any]]
    ) -> None:
        """Puts a new row in place of whatever had its id (a tombstone, with its vectors)."""
        gone = connection.execute(delete(t.adapters).where(t.adapters.c.id == entry.id)).rowcount
        if gone:
            bump(connection, "vectors")
        connection.execute(
            insert(t.adapters).values(
                id=entry.id,
                blob=blob,
                bytes=entry.bytes,
                base_model=entry.base_model,
                title=entry.title,
                kind=entry.kind,
                modality=entry.modality,
                thumbnail=entry.thumbnail,
                owner=entry.owner,
                visibility=entry.visibility,
                review_state=entry.review_state,
                created=time.time(),
                changed=bump(connection, "generation"),
                entry=json.dumps(entry.to_dict()),
            )
        )
        items = [dict(test) for test in tests]
        if items:
            connection.execute(insert(t.tests).values(adapter_id=entry.id, items=json.dumps(items)))

    def touch(self, connection: Connection, adapter_id: str, **values: Any) -> bool:
        """Changes columns of a row and marks it changed; False if there is none."""
        values["changed"] = bump(connection, "generation")
        query = update(t.adapters).where(t.adapters.c.id == adapter_id).values(**values)
        return bool(connection.execute(query).rowcount)

    def purge(self, before: float) -> int:
        """Removes rows tombstoned before the time `before`; returns how many."""
        old = select(t.adapters.c.id).where(t.adapters.c.deleted < before)
        with self.write() as connection:
            gone = list(connection.execute(old).scalars())
            for name in gone:
                self.remove(connection, name, "studio", "expire")
        return len(gone)

    def remove(self, connection: Connection, adapter_id: str, by: str, action: str) -> None:
        """Takes a row out for good, with its vectors and tests."""
        known = self.find(connection, adapter_id)
        connection.execute(delete(t.adapters).where(t.adapters.c.id == adapter_id))
        for name in ("purges", "generation", "vectors"):
            bump(connection, name)
        before = state_of(known.entry) if known else {}
        audit.record(connection, by, action, adapter_id, before, {})

    def files(self) -> list[Files]:
        """The files of every row, tombstones included, in the order of their ids."""
        columns = t.adapters.c
        query = select(
            columns.id, columns.title, columns.blob, columns.bytes, columns.thumbnail,
            columns.damaged.is_not(None),
        )  # fmt: skip
        with self.read() as connection:
            return [Files(*row) for row in connection.execute(query.order_by(columns.id))]

    def check(self, *, thoroughly: bool = False) -> list[str]:
        """What SQLite finds wrong with the file, at most ten findings; nothing if it is sound."""
        pragma = "integrity_check" if thoroughly else "quick_check"
        with self.read() as connection:
            found = connection.exec_driver_sql(f"PRAGMA {pragma}(10)").scalars().all()
            found = [] if found == ["ok"] else [str(line) for line in found]
            broken = []
            if thoroughly:
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return found + [f"a row of {row[0]} belongs to no adapter" for row in broken[:10]]

    def blobs(self, connection: Connection) -> set[str]:
        """Digests of all files that a row refers to, weights and thumbnails."""
        rows = connection.execute(select(t.adapters.c.blob, t.adapters.c.thumbnail))
        return {digest for row in rows for digest in row}

    def tests(self, adapter_id: str) -> list[dict[str, Any]]:
        """The test prompts stored with an adapter."""
        with self.read() as connection:
            query = select(t.tests.c["items"]).where(t.tests.c.adapter_id == adapter_id)
            items = connection.execute(query).scalar()
        return json.loads(items) if items else []


def counter(connection: Connection, name: str) -> int:
    """Value of a counter; 0 if it was never raised."""
    query = select(t.counters.c.value).where(t.counters.c.name == name)
    return connection.execute(query).scalar() or 0


def bump(connection: Connection, name: str, by: int = 1) -> int:
    """Raises a counter and returns its new value."""
    query = update(t.counters).where(t.counters.c.name == name)
    if not connection.execute(query.values(value=t.counters.c.value + by)).rowcount:
        connection.execute(insert(t.counters).values(name=name, value=by))
    return counter(connection, name)


def iso(seconds: float) -> str:
    """ISO 8601 in UTC of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _stored(row: RowMapping) -> Stored:
    now = {
        "described_by": row["source"] or "",
        "thumbnail": row["thumbnail"],
        "owner": row["owner"],
        "visibility": row["visibility"],
        "review_state": row["review_state"],
        "created": iso(row["created"]),
        "deleted": row["deleted"] is not None,
        "damaged": row["damaged"] is not None,
    }
    entry = Entry.from_dict({**json.loads(row["entry"]), **now})
    return Stored(entry, row["blob"], row["created"], row["changed"])


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
