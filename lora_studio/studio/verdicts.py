"""The verdict on a composition: statistics kept in the gallery, figures from a worker of their own,
and what the cards of the sources say together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from lora_studio.composition import Recipe
from lora_studio.composition.licences import Licensed, outcome
from lora_studio.composition.triggers import merged_triggers
from lora_studio.errors import IncompatibleAdapters, InvalidRequest, WorkerFailed
from lora_studio.gallery import Entry, Gallery
from lora_studio.settings import Settings
from lora_studio.studio.at_once import AtOnce
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Job, JobHandle, Worker

MOST = 16
"""Most adapters a verdict is given on: every two of them are compared."""
FIRST, LATER = 0.12, 1.0
"""Seconds after which no further method is begun in the first step of a verdict, and in others."""
PATIENCE = 2.0
"""Seconds a page's question waits for its answer."""
BUSY = "waiting for another verdict"
_REMEMBERED = 256


class Judging(AtOnce):
    """The part of a studio that says what would come of a composition."""

    def __init__(self, settings: Settings, gallery: Gallery, worker: Worker) -> None:
        super().__init__(settings, gallery, worker)
        self._judging = threading.Lock()
        self._gathering: dict[frozenset[str], JobHandle] = {}
        self._asked_last: OrderedDict[str, str] = OrderedDict()

    def judge_composition(
        self, recipe: Mapping[str, Any], which: str = "all", *, actor: Actor | None = None
    ) -> Flow:
        """The verdict: methods side by side with why, conflict, controls, licences, trigger words.

        Args:
            which: "all" methods, or "some": the first of each part of the menu.
        """
        who = self._access.actor(actor)

        def steps(flow: Flow) -> Steps:
            _, entries, args = self._asked(recipe, which, who)
            found = yield from flow.run(_job(args, LATER))
            if found.get("missing"):
                yield from flow.run(self._gather(entries))
                found = yield from flow.run(_job(args, LATER))
            while found.get("left"):
                found = yield from flow.run(_job(args, LATER))
            return {"ready": True, **found, **_cards(entries)}

        return self._flow(who, steps)

    def peek_verdict(
        self, recipe: Mapping[str, Any], which: str = "some", *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """The verdict so far, for a page that asks again while `left` is not 0.

        Where adapters have never been compared, `ready` is False, and `fraction` and `message` say
        how far that is; licences and trigger words are there at once.
        """
        who = self._access.actor(actor)
        wanted, entries, args = self._asked(recipe, which, who)
        cards = _cards(entries)
        within = self._within(who, f"{wanted.id} {which}")
        gathered, waiting = self._progress(entries)
        if waiting is None and self.gallery.statistics.has(args["digests"].values()):
            handle = self.worker.submit(_job(args, within))
            try:
                found = handle.result(PATIENCE)
            except (IncompatibleAdapters, InvalidRequest) as error:
                return {"ready": True, "left": 0, "refused": str(error), **cards}
            except TimeoutError:
                handle.cancel()
                return {"ready": False, "fraction": None, "message": BUSY, **cards}
            if not found.get("missing"):
                return {"ready": True, **found, **cards}
        if gathered:
            raise WorkerFailed(
                "What was found out of these adapters cannot be kept. Is the disk full?"
            )
        return {"ready": False, **(waiting or self._begin(entries)), **cards}

    def _within(self, who: Actor, key: str) -> float:
        """How long a step may take; only the first of a verdict counts as a search."""
        with self._judging:
            if self._asked_last.get(who.key) == key:
                return LATER
        self._quotas.search(who)
        with self._judging:
            self._asked_last[who.key] = key
            self._asked_last.move_to_end(who.key)
            while len(self._asked_last) > _REMEMBERED:
                self._asked_last.popitem(last=False)
        return FIRST

    def _asked(
        self, recipe: Mapping[str, Any], which: str, who: Actor
    ) -> tuple[Recipe, list[Entry], dict[str, Any]]:
        if which not in ("some", "all"):
            raise InvalidRequest(f"which is '{which[:40]}'; it must be some or all.")
        wanted = self._access.recipe(Recipe.from_dict(recipe), who)
        checked = self._composer.full_ids(wanted)
        active = checked.active
        if not active:
            raise InvalidRequest("No adapter takes part: switch one on and give it a weight.")
        if len(active) > MOST:
            raise InvalidRequest(
                f"A verdict is given on at most {MOST} adapters, and {len(active)} take part. "
                "Switch some off, or compose without it."
            )
        entries = [self.gallery.get(source.id) for source in active]
        return (
            checked,
            entries,
            {
                "recipe": checked.to_dict(),
                "digests": {entry.id: self.gallery.digest(entry.id) for entry in entries},
                "titles": {entry.id: entry.title for entry in entries},
                "root": str(self.gallery.statistics.root),
                "family": self._bases.family(checked.base["repo"])
                if checked.modality == "image"
                else "",
                "which": which,
            },
        )

    def _gather(self, entries: list[Entry]) -> Job:
        blobs = [str(self.gallery.blob_path(entry.id)) for entry in entries]
        args = {"blobs": blobs, "root": str(self.gallery.statistics.root)}
        return Job("gather_statistics", args, "figures")

    def _progress(self, entries: list[Entry]) -> tuple[bool, dict[str, Any] | None]:
        """Whether the statistics of these adapters have just been taken; or how far that is.

        Raises:
            LoraStudioError: taking them failed, and why.
        """
        key = _key(entries)
        with self._judging:
            handle = self._gathering.get(key)
            if handle is not None and handle.finished:
                del self._gathering[key]
        if handle is None:
            return False, None
        if handle.finished:
            handle.result(0.0)
            return True, None
        event = handle.latest or {}
        message = event.get("message") or BUSY
        return False, {"fraction": event.get("fraction"), "message": message}

    def _begin(self, entries: list[Entry]) -> dict[str, Any]:
        handle = self.worker.submit(self._gather(entries))
        with self._judging:
            self._gathering[_key(entries)] = handle
        return {"fraction": 0.0, "message": "comparing these adapters, the first time"}


def _key(entries: list[Entry]) -> frozenset[str]:
    return frozenset(entry.id for entry in entries)


def _job(args: Mapping[str, Any], within: float) -> Job:
    return Job("verdict", {**args, "within": within}, "figures")


def _cards(entries: list[Entry]) -> dict[str, Any]:
    """What the cards say together."""
    return {
        "licence": outcome([Licensed(entry.title, entry.licence) for entry in entries]),
        "triggers": merged_triggers([(entry.title, entry.trigger_words) for entry in entries]),
    }
