"""Counting what each person does, so that nobody keeps the others from the studio.

What is stored is counted in the database, in the transaction that stores it; see
`gallery.moderated.Allowance`. Here is what leaves nothing behind.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from lora_studio.errors import TooMany
from lora_studio.hosting import Quota
from lora_studio.studio.permissions import Actor

DAY, MINUTE = 24 * 3600.0, 60.0
_REMEMBERED = 10_000


class Window:
    """At most `limit` uses of one key in any `seconds`; exact however many threads ask."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._uses: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, message: str) -> None:
        """Counts one use, or raises TooMany with `message` and when to come back."""
        with self._lock:
            now = time.monotonic()
            uses = self._uses.setdefault(key, deque())
            self._uses.move_to_end(key)
            while uses and uses[0] <= now - self._seconds:
                uses.popleft()
            if len(uses) >= self.limit:
                wait = uses[0] + self._seconds - now if uses else self._seconds
                raise TooMany(f"{message} Try again in {_span(wait)}.")
            uses.append(now)
            while len(self._uses) > _REMEMBERED:
                self._uses.popitem(last=False)


class Quotas:
    """The windows and running jobs of one studio. The person of a local studio is not counted."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._searches = Window(quota.searches_per_minute, MINUTE)
        self._generations = Window(quota.visitor_generations_per_day, DAY)
        self._running: dict[str, int] = {}
        self._lock = threading.Lock()

    def search(self, actor: Actor) -> None:
        """Counts a search."""
        if not actor.local:
            limit = self._quota.searches_per_minute
            self._searches.take(actor.key, f"That were {limit} searches in a minute.")

    def generation(self, actor: Actor) -> None:
        """Counts a composition or comparison of somebody who has not signed in."""
        if not actor.signed_in:
            limit = self._quota.visitor_generations_per_day
            self._generations.take(
                actor.key, f"Without signing in there are {limit} runs in 24 hours; sign in."
            )

    @contextmanager
    def job(self, actor: Actor) -> Iterator[None]:
        """Holds one of the person's places among the running and waiting jobs."""
        if actor.local:
            yield
            return
        key, limit = actor.key, self._quota.jobs_per_person
        with self._lock:
            if self._running.get(key, 0) >= limit:
                raise TooMany(f"{limit} of your jobs are running or waiting. Wait for one to end.")
            self._running[key] = self._running.get(key, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    minutes = seconds / 60
    return f"{round(minutes)} minutes" if minutes < 90 else f"{round(minutes / 60)} hours"
