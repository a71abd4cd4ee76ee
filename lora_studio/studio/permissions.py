"""Who may do what: one table, asked inside every method of the studio.

A visitor has not signed in; an owner added the adapter in question; a moderator is named in the
settings. In a studio without sign-in its one person is all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_studio.gallery import Entry

Role = Literal["visitor", "person", "owner", "moderator"]

ALL: frozenset[Role] = frozenset({"visitor", "person", "owner", "moderator"})
SIGNED_IN: frozenset[Role] = frozenset({"person", "owner", "moderator"})
OWNER: frozenset[Role] = frozenset({"owner"})
KEEPERS: frozenset[Role] = frozenset({"owner", "moderator"})
MODERATOR: frozenset[Role] = frozenset({"moderator"})

TABLE: dict[str, frozenset[Role]] = {
    "browse": ALL,  # search, look, download, map, dry run, hints
    "generate": ALL,  # compose, compare, grids, test prompts, loading a base model
    "vote": ALL,
    "upload": SIGNED_IN,
    "report": SIGNED_IN,
    "edit": OWNER,
    "show": OWNER,  # public or private
    "delete": KEEPERS,
    "restore": KEEPERS,
    "approve": MODERATOR,
    "quarantine": MODERATOR,
    "purge": MODERATOR,
    "ban": MODERATOR,
    "audit": MODERATOR,
}
"""Action -> roles that may. Those from "edit" to "purge" are done to one adapter."""

ON_ADAPTERS = ("report", "edit", "show", "delete", "restore", "approve", "quarantine", "purge")
STOPPED_BY_A_BAN = frozenset(TABLE) - {"browse"}

_WHO: dict[frozenset[Role], str] = {
    SIGNED_IN: "Sign in first.",
    OWNER: "Only its owner may.",
    KEEPERS: "Only its owner or a moderator may.",
    MODERATOR: "Only a moderator may.",
}


@dataclass(frozen=True)
class Actor:
    """Who asks, as the web server or a program's caller vouches for it.

    Args:
        sub: lasting id of a person who has signed in, "" for a visitor.
        name: what people see; may change.
        moderator: whether the settings name this person.
        local: the one person of a studio without sign-in.
        address: where a visitor comes from, for quotas; a hint, since proxies write it.
    """

    sub: str = ""
    name: str = ""
    moderator: bool = False
    local: bool = False
    address: str = ""

    @property
    def signed_in(self) -> bool:
        return bool(self.sub) or self.local

    @property
    def key(self) -> str:
        """Whom quotas count: the person, or the address of a visitor."""
        return self.sub or f"visitor at {self.address}"

    def roles(self, entry: Entry | None = None) -> frozenset[Role]:
        """Every role this person has, towards `entry` if one is given."""
        if self.local:
            return ALL
        held: set[Role] = {"person"} if self.sub else {"visitor"}
        if self.moderator and self.sub:
            held.add("moderator")
        if entry is not None and self.sub and entry.owner == self.sub:
            held.add("owner")
        return frozenset(held)


LOCAL = Actor(name="You", moderator=True, local=True)
VISITOR = Actor()


def may(actor: Actor, action: str, entry: Entry | None = None) -> bool:
    """Whether the table lets `actor` do `action`, to `entry` if it is done to one."""
    return bool(TABLE[action] & actor.roles(entry))


def sees(actor: Actor, entry: Entry) -> bool:
    """Whether an adapter exists as far as `actor` can tell."""
    if actor.roles(entry) & KEEPERS:
        return True
    held = entry.review_state == "quarantined"
    return entry.visibility in ("public", "unlisted") and not held and not entry.deleted


def refusal(action: str) -> str:
    """What is said to those who may not."""
    return _WHO.get(TABLE[action], "This is not possible here.")
