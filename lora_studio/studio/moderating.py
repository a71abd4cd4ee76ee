"""What owners and moderators do to adapters, and what people are told about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.gallery import Entry
from lora_studio.gallery.twins import alike
from lora_studio.studio import permissions
from lora_studio.studio.permissions import Actor
from lora_studio.studio.verdicts import Judging

LONGEST = {"title": 120, "description": 2000, "licence": 200, "contributor": 200}
LISTS = {"tags": (32, 60), "trigger_words": (32, 200), "samples": (64, 2000)}
LONGEST_REASON = 1000


class Moderating(Judging):
    """The part of a studio where people answer for adapters."""

    def who_am_i(self, *, actor: Actor | None = None) -> dict[str, Any]:
        """{mode, id, name, signed_in, sign_in, moderator, may, banned} of the person who asks."""
        who = self._access.actor(actor)
        general = [a for a in permissions.TABLE if a not in permissions.ON_ADAPTERS]
        return {
            "mode": self.settings.hosting.mode,
            "id": who.sub,
            "name": who.name or who.sub,
            "signed_in": who.signed_in,
            "sign_in": self.settings.hosting.signs_in,
            "moderator": who.moderator,
            "may": [action for action in general if permissions.may(who, action)],
            "banned": who.sub in self.gallery.banned() if who.sub else False,
        }

    def edit_adapter(
        self, id: str, card: Mapping[str, Any], *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """Changes title, description, licence, contributor, tags, trigger_words or samples.

        A moderator looks at it again, since what it says decides for whom it is chosen.
        """
        who = self._access.actor(actor)
        entry = self._access.entry(id, who, "edit")
        checked = _checked(card)
        entry = self.gallery.edit(entry.id, checked, who.sub, anew=not who.moderator)
        self.librarian.changed()
        return self._access.told(entry.to_dict(), who)

    def show_adapter(
        self, id: str, visibility: str, *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """Makes an adapter "public" or "private", which is seen by its owner only."""
        if visibility not in ("public", "private"):
            raise InvalidRequest(f"visibility is '{visibility[:40]}'; it must be public or private")
        who = self._access.actor(actor)
        entry = self._access.entry(id, who, "show")
        entry = self.gallery.set_visibility(entry.id, visibility, who.sub)
        return self._access.told(entry.to_dict(), who)

    def report_adapter(self, id: str, reason: str, *, actor: Actor | None = None) -> None:
        """Tells moderators what is wrong with an adapter."""
        text = " ".join(reason.split())[:LONGEST_REASON]
        if not text:
            raise InvalidRequest("Say in a sentence what is wrong with it.")
        who = self._access.actor(actor)
        entry = self._access.entry(id, who, "report")
        per_day = self.settings.hosting.quota.reports_per_day
        self.gallery.report(entry.id, text, who.sub, per_day)

    def approve_adapter(self, id: str, *, actor: Actor | None = None) -> dict[str, Any]:
        """Lets an adapter be chosen for people, also one that was held back; closes its reports."""
        return self._review(id, "approve", actor)

    def quarantine_adapter(self, id: str, *, actor: Actor | None = None) -> dict[str, Any]:
        """Holds an adapter back from everyone but its owner and moderators; closes its reports."""
        return self._review(id, "quarantine", actor)

    def _review(self, id: str, action: str, actor: Actor | None) -> dict[str, Any]:
        who = self._access.actor(actor)
        entry = self._access.entry(id, who, action)
        review = "quarantined" if action == "quarantine" else "reviewed"
        entry = self.gallery.set_review(entry.id, review, who.sub)
        self.gallery.close_reports(entry.id, who.sub)
        return self._access.told(entry.to_dict(), who)

    def purge_adapter(self, id: str, *, actor: Actor | None = None) -> None:
        """Removes an adapter and its file for good."""
        who = self._access.actor(actor)
        self.gallery.purge(self._access.entry(id, who, "purge").id, who.sub)

    def ban_person(self, sub: str, reason: str = "", *, actor: Actor | None = None) -> None:
        """Keeps a person from everything but looking."""
        who = self._access.actor(actor)
        self._access.check(who, "ban")
        if not sub.strip() or sub in self.settings.hosting.moderators:
            raise InvalidRequest("Name the id of a person who is not a moderator.")
        self.gallery.ban(sub, reason[:LONGEST_REASON], who.sub)

    def unban_person(self, sub: str, *, actor: Actor | None = None) -> None:
        """Takes a ban back."""
        who = self._access.actor(actor)
        self._access.check(who, "ban")
        self.gallery.unban(sub, who.sub)

    def list_for_review(self, *, actor: Actor | None = None) -> dict[str, Any]:
        """What moderators look after: {reports, unreviewed, quarantined, banned}; entries carry
        "owner", reports "entry", and unreviewed ones "like": titles of adapters that are held back
        and whose update is nearly the same, as far as sketches tell."""
        who = self._access.actor(actor)
        self._access.check(who, "audit")
        held = self.gallery.in_review("quarantined")
        return {
            "reports": [
                {**report, "entry": entry}
                for report in self.gallery.open_reports()
                if (entry := self._known(report["adapter_id"], who))
            ],
            "unreviewed": [
                {**self._owned(entry, who), "like": alike(entry, held)}
                for entry in self.gallery.in_review("unreviewed")
            ],
            "quarantined": [self._owned(entry, who) for entry in held],
            "banned": [{"id": s, "reason": r} for s, r in self.gallery.banned().items()],
        }

    def list_audit(self, limit: int = 100, *, actor: Actor | None = None) -> dict[str, Any]:
        """{rows, broken_at}: the latest changes, newest first, and the number of the first row that
        was tampered with, or None."""
        who = self._access.actor(actor)
        self._access.check(who, "audit")
        rows = self.gallery.history(min(max(limit, 1), 1000))
        return {"rows": rows, "broken_at": self.gallery.audit_broken_at()}

    def _known(self, adapter_id: str, who: Actor) -> dict[str, Any] | None:
        try:
            return self._owned(self.gallery.get(adapter_id), who)
        except NotFound:  # purged since it was reported
            return None

    def _owned(self, entry: Entry, who: Actor) -> dict[str, Any]:
        return {**self._access.told(entry.to_dict(), who), "owner": entry.owner}


def _checked(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card that may be changed, cut to size; at least one."""
    checked: dict[str, Any] = {
        name: " ".join(str(card[name]).split())[:longest]
        for name, longest in LONGEST.items()
        if name in card
    }
    for name, (most, longest) in LISTS.items():
        if name in card:
            if not isinstance(card[name], list):
                raise InvalidRequest(f"{name} must be a list of texts.")
            lines = [" ".join(str(item).split())[:longest] for item in card[name][:most]]
            checked[name] = tuple(line for line in lines if line)
    if not checked or checked.get("title") == "":
        allowed = ", ".join([*LONGEST, *LISTS])
        raise InvalidRequest(f"Give a title that is not empty, or another of: {allowed}.")
    return checked
