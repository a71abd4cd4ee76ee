"""The tables of the gallery and how a connection to them is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)

FOLDER = "gallery"
"""Where in the data folder a gallery lies."""

DATABASE = "gallery.sqlite"
"""Its rows, inside that folder."""

SCHEMA = 3
"""Version of the tables below."""

ADDED = {
    2: (
        "ALTER TABLE adapters ADD COLUMN modality VARCHAR(8) NOT NULL DEFAULT 'text'",
        "ALTER TABLE adapters ADD COLUMN thumbnail VARCHAR(64) NOT NULL DEFAULT ''",
    ),
    3: ("ALTER TABLE adapters ADD COLUMN damaged FLOAT",),
}
"""Version -> what brings the tables of the version before up to it."""

metadata = MetaData()

adapters = Table(
    "adapters",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("blob", String(64), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("modality", String(8), nullable=False, server_default="text"),
    Column("thumbnail", String(64), nullable=False, server_default=""),  # digest of its PNG
    Column("owner", Text, nullable=False),
    Column("visibility", String(16), nullable=False),
    Column("review_state", String(16), nullable=False),
    Column("created", Float, nullable=False),  # seconds since 1970, UTC
    Column("deleted", Float, nullable=True),  # when it was tombstoned, or null
    Column("damaged", Float, nullable=True),  # when its file was found missing or altered, or null
    Column("changed", BigInteger, nullable=False, index=True),  # generation of the last change
    Column("entry", Text, nullable=False),  # JSON of Entry
)


def _adapter_id() -> Column[str]:
    owner = ForeignKey("adapters.id", ondelete="CASCADE")
    return Column("adapter_id", String(64), owner, primary_key=True)


vectors = Table(
    "vectors",
    metadata,
    _adapter_id(),
    Column("embedder_id", Text, primary_key=True),
    Column("source", String(16), nullable=False),
    Column("dim", Integer, nullable=False),
    Column("samples", LargeBinary, nullable=False),  # (n, dim) float16, little endian
    Column("centroid", LargeBinary, nullable=False),  # (dim,) float32, little endian
)

tests = Table(
    "tests",
    metadata,
    _adapter_id(),
    Column("items", Text, nullable=False),
)

recipes = Table(
    "recipes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("yaml", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("adapter_id", String(64), nullable=True),
    Column("created", Float, nullable=False),
)

notes = Table(
    "notes",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("value", Text, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def upgrade(connection: Connection, schema: int) -> None:
    """Brings tables written at an earlier version up to `SCHEMA`; rows keep what they say."""
    for version in range(schema + 1, SCHEMA + 1):
        for statement in ADDED[version]:
            connection.exec_driver_sql(statement)


def open_engine(path: Path) -> Engine:
    """An engine over the SQLite file at `path`: WAL, synced at every commit, foreign keys on.

    Transactions opened with the execution option `writer=True` take the write lock at once.
    """
    engine = create_engine(
        f"sqlite:///{path}", pool_size=8, max_overflow=56, connect_args={"timeout": 30}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.execute("PRAGMA secure_delete=ON")  # what is purged is gone from the file too
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        writer = connection.get_execution_options().get("writer", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine
