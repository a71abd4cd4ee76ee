"""A named, ordered collection of things that register themselves on import."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

from lora_studio.errors import NotFound

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps stable names to entries, in the order of registration.

    Args:
        noun: what an entry is, for messages ("method", "format").
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Adds `entry` under `name`; a second registration of a name is a programming error."""
        if name in self._entries:
            raise ValueError(f"{self.noun} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """The entry called `name`; raises NotFound with the nearest names otherwise."""
        if name in self._entries:
            return self._entries[name]
        near = get_close_matches(name, self._entries, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else f" There are: {', '.join(self._entries)}."
        raise NotFound(f"There is no {self.noun} called '{name}'.{hint}")

    def names(self) -> list[str]:
        """Names in the order of registration."""
        return list(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries
