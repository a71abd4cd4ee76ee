"""Who changed what, when: rows that are only appended, in the transaction of the change itself.

Each row carries the hash of the row before, so that a row changed or taken out later is noticed;
the database refuses to do either. Since they outlive what is purged, they hold no text that people
wrote, only fingerprints of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    DDL,
    Column,
    Connection,
    Float,
    Integer,
    String,
    Table,
    Text,
    event,
    func,
    insert,
    select,
)

from lora_studio.gallery.tables import metadata

FIRST = "0" * 64

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("time", Float, nullable=False),  # seconds since 1970, UTC
    Column("actor", Text, nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("target", Text, nullable=False),
    Column("before", Text, nullable=False),  # JSON, {} where there was nothing
    Column("after", Text, nullable=False),  # JSON, {} where nothing is left
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

for _verb in ("UPDATE", "DELETE"):
    event.listen(
        audit,
        "after_create",
        DDL(
            f"CREATE TRIGGER audit_{_verb.lower()} BEFORE {_verb} ON audit BEGIN "
            "SELECT RAISE(ABORT, 'the audit log is only appended to'); END"
        ).execute_if(dialect="sqlite"),
    )

_SAID = ("seq", "time", "actor", "action", "target", "before", "after", "previous")


def fingerprint(value: Any) -> str:
    """Eight characters that tell whether two texts (or lists of texts) are the same."""
    text = json.dumps(value, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def record(
    connection: Connection,
    actor: str,
    action: str,
    target: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Appends one row inside the transaction that makes the change.

    Args:
        actor: id of who did it; "" is the owner of a studio without sign-in.
        target: id of the adapter or the person it was done to.
        before, after: what the change was from and to.
    """
    last = connection.execute(
        select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
    ).first()
    row = {
        "seq": (last.seq if last else 0) + 1,
        "time": time.time(),
        "actor": actor,
        "action": action,
        "target": target,
        "before": json.dumps(before, sort_keys=True),
        "after": json.dumps(after, sort_keys=True),
        "previous": last.hash if last else FIRST,
    }
    connection.execute(insert(audit).values(**row, hash=_hash(row)))


def history(connection: Connection, limit: int = 100, target: str = "") -> list[dict[str, Any]]:
    """The latest rows, newest first, of one target or of all."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if target:
        query = query.where(audit.c.target == target)
    rows = connection.execute(query).mappings()
    return [
        {**row, "before": json.loads(row["before"]), "after": json.loads(row["after"])}
        for row in rows
    ]


def broken_at(connection: Connection) -> int | None:
    """Number of the first row that is not as it was written, or None if the whole chain holds.

    Rows cut off at the end leave a shorter chain that holds: keep the last hash elsewhere to
    notice that.
    """
    previous, expected = FIRST, 1
    for row in connection.execute(select(audit).order_by(audit.c.seq)).mappings():
        whole = row["seq"] == expected and row["previous"] == previous
        if not whole or row["hash"] != _hash(row):
            return expected
        previous, expected = row["hash"], expected + 1
    return None


def count(connection: Connection, actor: str, action: str, since: float) -> int:
    """How often `actor` did `action` after the time `since`."""
    query = select(func.count()).where(
        audit.c.actor == actor, audit.c.action == action, audit.c.time > since
    )
    return connection.execute(query).scalar() or 0


def _hash(row: Mapping[Any, Any]) -> str:
    said = json.dumps([row[name] for name in _SAID])
    return hashlib.sha256(said.encode()).hexdigest()
