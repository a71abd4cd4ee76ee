"""What people may change of an adapter after it was added, and what they tell moderators of it.

Every change and its row in the audit log are one transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from lora_studio.errors import NotFound, TooMany
from lora_studio.gallery import audit
from lora_studio.gallery import tables as t
from lora_studio.gallery.entry import Entry
from lora_studio.gallery.searchable import Searchable
from lora_studio.gallery.store import Stored, bump, iso
from lora_studio.retrieval.retriever import adapter_texts

DAY = 24 * 3600.0

Visibility = Literal["public", "private", "unlisted"]
Review = Literal["unreviewed", "reviewed", "quarantined"]

reports = Table(
    "reports",
    t.metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", String(64), nullable=False, index=True),
    Column("reporter", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("closed", Float, nullable=True),
)

bans = Table(
    "bans",
    t.metadata,
    Column("sub", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created", Float, nullable=False),
)


@dataclass(frozen=True)
class Allowance:
    """What an owner may add; checked inside the transaction that adds, so never overrun.

    Args:
        per_day: uploads in 24 hours, those that were refused included, since reading them is what
            costs; what is composed here is limited by its bytes only.
        bytes: of all adapters of the owner.
    """

    per_day: int
    bytes: int

    def check(self, connection: Connection, owner: str, action: str, size: int) -> None:
        """Raises TooMany if `size` more bytes of `owner` are too many."""
        if action == "upload":
            self.check_count(connection, owner)
        owned = select(func.sum(t.adapters.c.bytes)).where(t.adapters.c.owner == owner)
        used = connection.execute(owned).scalar() or 0
        if used + size > self.bytes:
            raise TooMany(
                f"Your adapters take {used / 2**20:,.1f} MB of {self.bytes / 2**20:,.1f} MB. "
                "Delete some first; they count until they are removed for good after seven days."
            )

    def check_count(self, connection: Connection, owner: str) -> None:
        """Raises TooMany if `owner` has uploaded as much as they may in a day."""
        since = time.time() - DAY
        tried = sum(audit.count(connection, owner, did, since) for did in ("upload", "refuse"))
        if tried >= self.per_day:
            raise TooMany(
                f"You have uploaded {self.per_day} files in the last 24 hours, which is the most; "
                "those that were refused count too. Come back tomorrow, or ask a moderator."
            )


class Moderated(Searchable):
    """The part of a gallery that owners and moderators change."""

    def check_uploads(self, owner: str, allowance: Allowance | None) -> None:
        """Raises TooMany if `owner` may upload no more today; to be asked before a file is read."""
        if allowance:
            with self._store.read() as connection:
                allowance.check_count(connection, owner)

    def count_refused(self, owner: str, refusal: str) -> None:
        """Counts an upload of `owner` that was refused."""
        with self._store.write() as connection:
            audit.record(connection, owner, "refuse", "", {}, {"refusal": refusal})

    def set_visibility(self, adapter_id: str, visibility: Visibility, by: str = "") -> Entry:
        """Shows an adapter to everyone, to its owner only, or to who knows its id."""
        return self._change(adapter_id, by, "show", visibility=visibility)

    def set_review(self, adapter_id: str, review: Review, by: str = "") -> Entry:
        """Marks an adapter as looked at by a moderator, or holds it back from everyone else."""
        action = {"quarantined": "quarantine", "reviewed": "approve"}.get(review, "unreview")
        return self._change(adapter_id, by, action, review_state=review)

    def delete(self, adapter_id: str, by: str = "") -> Entry:
        """Marks an adapter as deleted; `restore` undoes it for seven days."""
        return self._change(adapter_id, by, "delete", deleted=time.time())

    def restore(self, adapter_id: str, by: str = "") -> Entry:
        """Takes a deletion back."""
        return self._change(adapter_id, by, "restore", deleted=None)

    def edit(
        self, adapter_id: str, card: Mapping[str, Any], by: str = "", *, anew: bool = False
    ) -> Entry:
        """Changes fields of the card; texts that place it in the search are embedded again.

        Args:
            anew: whether what was reviewed has to be looked at again, since it says other things.
        """
        name = self.get(adapter_id).id
        with self._store.write() as connection:
            known = self._stored(connection, name)
            entry = replace(known.entry, **card)
            if entry == known.entry:
                return entry
            if anew and known.entry.review_state == "reviewed":
                card = {**card, "review_state": "unreviewed"}
                entry = replace(entry, review_state="unreviewed")
            before = {key: audit.fingerprint(getattr(known.entry, key)) for key in card}
            self._store.touch(
                connection,
                name,
                title=entry.title,
                review_state=entry.review_state,
                entry=json.dumps(entry.to_dict()),
            )
            if adapter_texts(entry.card()) != adapter_texts(known.entry.card()):
                self._displace(connection, known.entry)
            after = {key: audit.fingerprint(value) for key, value in card.items()}
            audit.record(connection, by, "edit", name, before, after)
        return self.get(name)

    def _displace(self, connection: Connection, entry: Entry) -> None:
        if entry.described_by == "centroid":
            return
        connection.execute(delete(t.vectors).where(t.vectors.c.adapter_id == entry.id))
        bump(connection, "vectors")

    def _change(self, adapter_id: str, by: str, action: str, **columns: Any) -> Entry:
        """Sets columns of a row; what stays as it was is no change and leaves no trace."""
        name = self.get(adapter_id).id
        with self._store.write() as connection:
            known = self._stored(connection, name)
            before = {key: _column(known.entry, key) for key in columns}
            after = {key: _said(key, value) for key, value in columns.items()}
            if before != after:
                self._store.touch(connection, name, **columns)
                audit.record(connection, by, action, name, before, after)
        return self.get(name)

    def _stored(self, connection: Connection, name: str) -> Stored:
        known = self._store.find(connection, name)
        if known is None:
            raise NotFound(f"The adapter '{name[:12]}' has just been removed.")
        return known

    def report(self, adapter_id: str, reason: str, by: str, per_day: int) -> None:
        """Tells moderators that something is wrong with an adapter.

        Raises:
            TooMany: `by` has made `per_day` reports in the last 24 hours.
        """
        name, now = self.get(adapter_id).id, time.time()
        with self._store.write() as connection:
            if audit.count(connection, by, "report", now - DAY) >= per_day:
                raise TooMany(f"You have made {per_day} reports in 24 hours. Come back tomorrow.")
            values = {"adapter_id": name, "reporter": by, "reason": reason, "created": now}
            connection.execute(insert(reports).values(**values))
            audit.record(connection, by, "report", name, {}, {"reason": audit.fingerprint(reason)})

    def close_reports(self, adapter_id: str, by: str = "") -> int:
        """Marks the reports of an adapter as dealt with; returns how many were open."""
        name, now = self.get(adapter_id).id, time.time()
        still = (reports.c.adapter_id == name, reports.c.closed.is_(None))
        with self._store.write() as connection:
            closed = connection.execute(update(reports).where(*still).values(closed=now)).rowcount
            if closed:
                audit.record(connection, by, "close", name, {"reports": closed}, {"reports": 0})
        return closed

    def open_reports(self) -> list[dict[str, Any]]:
        """[{adapter_id, reporter, reason, created}] not dealt with yet, newest first."""
        query = select(reports).where(reports.c.closed.is_(None)).order_by(reports.c.id.desc())
        with self._store.read() as connection:
            rows = connection.execute(query.limit(200)).mappings()
            return [
                {"adapter_id": r["adapter_id"], "reporter": r["reporter"], "reason": r["reason"]}
                | {"created": iso(r["created"])}
                for r in rows
            ]

    def in_review(self, review: Review, limit: int = 200) -> list[Entry]:
        """Adapters people uploaded, not deleted, that are in this state; newest first."""
        columns = t.adapters.c
        query = select(columns.id).where(
            columns.review_state == review, columns.deleted.is_(None), columns.kind == "uploaded"
        )
        if review == "unreviewed":  # what nobody else sees need not be looked at
            query = query.where(columns.visibility == "public")
        with self._store.read() as connection:
            ordered = query.order_by(columns.created.desc()).limit(limit)
            ids = list(connection.execute(ordered).scalars())
        found = self._store.entries(ids)
        return [found[name] for name in ids if name in found]

    def ban(self, sub: str, reason: str, by: str = "") -> None:
        """Keeps a person from changing or running anything."""
        with self._store.write() as connection:
            known = connection.execute(select(bans.c.reason).where(bans.c.sub == sub)).scalar()
            if known is None:
                values = {"sub": sub, "reason": reason, "created": time.time()}
                connection.execute(insert(bans).values(**values))
                audit.record(connection, by, "ban", sub, {}, {"reason": reason})

    def unban(self, sub: str, by: str = "") -> None:
        """Takes a ban back."""
        with self._store.write() as connection:
            known = connection.execute(select(bans.c.reason).where(bans.c.sub == sub)).scalar()
            if known is not None:
                connection.execute(delete(bans).where(bans.c.sub == sub))
                audit.record(connection, by, "unban", sub, {"reason": known}, {})

    def banned(self) -> dict[str, str]:
        """Id of each banned person -> reason."""
        with self._store.read() as connection:
            return {row.sub: row.reason for row in connection.execute(select(bans))}

    def history(self, limit: int = 100, target: str = "") -> list[dict[str, Any]]:
        """The audit log's latest rows, newest first."""
        with self._store.read() as connection:
            return audit.history(connection, limit, target)

    def audit_broken_at(self) -> int | None:
        """Number of the first row of the audit log that does not fit, or None if all do."""
        with self._store.read() as connection:
            return audit.broken_at(connection)


def _column(entry: Entry, name: str) -> Any:
    return getattr(entry, name)


def _said(name: str, value: Any) -> Any:
    """A column as the entry shows it: when it was deleted is only whether it is."""
    return value is not None if name == "deleted" else value
