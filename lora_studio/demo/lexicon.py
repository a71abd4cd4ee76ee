"""The words of the demo, read once from `data/*.yaml`: verbs, nouns, countries, opposites."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

Gender = Literal["m", "f"]

DATA = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Verb:
    """An English verb and things it is sensibly done to."""

    base: str
    third: str
    past: str
    objects: tuple[str, ...]
    command: bool


@dataclass(frozen=True)
class Noun:
    """An English noun and its French counterpart; `kind` says which adjectives suit it."""

    english: str
    english_plural: str
    french: str
    gender: Gender
    french_plural: str
    kind: str


@dataclass(frozen=True)
class Adjective:
    """An English adjective and its French forms; `before` is true where it precedes the noun."""

    english: str
    masculine: str
    feminine: str
    masculine_plural: str
    feminine_plural: str
    before: bool
    kinds: frozenset[str]
    masculine_vowel: str


@dataclass(frozen=True)
class Lexicon:
    """Every closed list of words in the demo."""

    verbs: tuple[Verb, ...]
    singular_subjects: tuple[str, ...]
    plural_subjects: tuple[str, ...]
    tails: tuple[str, ...]
    antonyms: tuple[tuple[str, str], ...]
    reviewed: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    names: tuple[str, ...]
    jobs: tuple[str, ...]
    capitals: MappingProxyType[str, str]
    months: tuple[str, ...]
    weekdays: tuple[str, ...]
    places: tuple[str, ...]
    dates: tuple[str, ...]
    undated: tuple[str, ...]
    nouns: tuple[Noun, ...]
    adjectives: tuple[Adjective, ...]


def read_data(name: str) -> dict[str, Any]:
    """One YAML file of `data/`, by its stem."""
    return yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))


def _noun(line: str) -> Noun:
    english, english_plural, french, gender, french_plural, kind = line.split()
    return Noun(english, english_plural, french, "f" if gender == "f" else "m", french_plural, kind)


def _adjective(line: str) -> Adjective:
    english, m, f, mpl, fpl, side, kinds, *vowel = line.split()
    suits = frozenset(kinds.split(","))
    return Adjective(english, m, f, mpl, fpl, side == "pre", suits, vowel[0] if vowel else m)


@cache
def lexicon() -> Lexicon:
    """The whole lexicon."""
    english, world, french = read_data("english"), read_data("world"), read_data("french")
    silent = set(english["no_command"])
    verbs = (Verb(b, s, p, tuple(o), b not in silent) for b, s, p, o in english["verbs"])
    lists = ("singular_subjects", "plural_subjects", "tails", "reviewed", "positive", "negative")
    return Lexicon(
        verbs=tuple(verbs),
        antonyms=tuple((left, right) for left, right in english["antonyms"]),
        capitals=MappingProxyType(dict(world["countries"])),
        nouns=tuple(_noun(line) for line in french["nouns"].splitlines()),
        adjectives=tuple(_adjective(line) for line in french["adjectives"].splitlines()),
        **{name: tuple(english[name]) for name in lists},
        **{
            name: tuple(world[name])
            for name in ("names", "jobs", "months", "weekdays", "places", "dates", "undated")
        },
    )
