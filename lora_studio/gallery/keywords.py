"""Which adapters have the words of a query, for when no embedder is there or no vector yet.

A word counts by its rarity and by where it stands: title, tags and trigger words, contributor,
description, sample inputs (by the share of samples that have it).
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lora_studio.gallery.entry import Entry

NAMED = 2.0
"""Weight from which a word names the adapter: title, tags, trigger words, contributor."""

_PREFIX = 0.6
_LEAST = 0.15
_MAX_WORDS = 32
_MAX_TERMS = 64
_MAX_TEXT = 2000
_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by for from i in into is it its make me my of on or please that the "
        "then this to turn want was what will with you your",
    )
)


@dataclass(frozen=True)
class Matches:
    """What a query found.

    Args:
        scores: (n,) relevance per slot, 0 where nothing matched.
        named: (n,) bool, slots whose title, tags, trigger words or contributor have every word.
        words: the words of the query, each with its (n,) mask.
    """

    scores: np.ndarray
    named: np.ndarray
    words: list[tuple[str, np.ndarray]]

    def matched(self, slot: int) -> str:
        """The words of the query that `slot` has."""
        return ", ".join(dict.fromkeys(word for word, mask in self.words if mask[slot]))


class KeywordIndex:
    """Stems of the cards' words over numbered slots; slots are only ever added."""

    def __init__(self) -> None:
        self._slots: dict[str, array[int]] = {}
        self._weights: dict[str, array[float]] = {}
        self._sorted: list[str] = []

    def add(self, slot: int, entry: Entry) -> None:
        """Indexes the words of an entry."""
        for term, weight in _weights(entry).items():
            if term not in self._slots:
                self._slots[term], self._weights[term] = array("q"), array("f")
            self._slots[term].append(slot)
            self._weights[term].append(weight)

    def search(self, text: str, size: int) -> Matches:
        """Scores of `size` slots for the words of `text`; stop words count only when alone."""
        words = list(dict.fromkeys(_words(text)))[:_MAX_WORDS]
        words = [word for word in words if word not in _STOP] or words
        scores, covered = np.zeros(size), np.zeros(size)
        named = np.full(size, bool(words))
        masks: list[tuple[str, np.ndarray]] = []
        for word in words:
            weights = self._weights_of(word, size)  # (n,)
            mask = weights > 0
            rarity = float(np.log(1 + size / (1 + np.count_nonzero(mask))))
            scores += rarity * weights
            covered += mask
            named &= weights >= NAMED
            masks.append((word, mask))
        scores *= covered / max(1, len(words))
        scores[scores < _LEAST * scores.max(initial=0)] = 0
        return Matches(scores, named, masks)

    def _weights_of(self, word: str, size: int) -> np.ndarray:
        stem = stemmed(word)
        weights = np.zeros(size, np.float32)
        for term in self._beginning(stem) if len(stem) >= 3 else [stem]:
            if term in self._slots:
                factor = 1.0 if term == stem else _PREFIX
                slots = np.array(self._slots[term])
                found = factor * np.array(self._weights[term], np.float32)
                weights[slots] = np.maximum(weights[slots], found)
        return weights

    def _beginning(self, stem: str) -> list[str]:
        """The terms that begin with `stem`; the shortest where there are many."""
        if len(self._sorted) != len(self._slots):
            self._sorted = sorted(self._slots)
        start = bisect_left(self._sorted, stem)
        end = bisect_left(self._sorted, stem + chr(0x10FFFF), lo=start)
        return sorted(self._sorted[start:end], key=len)[:_MAX_TERMS]


@lru_cache(maxsize=65536)
def stemmed(word: str) -> str:
    """A light stem: plural, -ed, -ing and a final e are cut ("translated" -> "translat")."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "sl":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _words(text: str) -> list[str]:
    plain = text[:_MAX_TEXT].casefold()
    if not plain.isascii():
        parts = unicodedata.normalize("NFKD", plain)
        plain = "".join(c for c in parts if not unicodedata.combining(c))
    return _WORD.findall(plain)


def _weights(entry: Entry) -> dict[str, float]:
    weights: dict[str, float] = {}
    fields = (
        (4.0, entry.title),
        (3.0, " ".join((*entry.tags, *entry.trigger_words))),
        (NAMED, entry.contributor),
        (1.5, entry.description),
        (0.5, entry.base_model),
    )
    for weight, text in fields:
        for word in _words(text):
            stem = stemmed(word)
            weights[stem] = max(weights.get(stem, 0.0), weight)
    samples: Counter[str] = Counter()
    for sample in entry.samples:
        samples.update({stemmed(word) for word in _words(sample)})
    for stem, count in samples.items():
        share = (count / len(entry.samples)) ** 0.5
        weights[stem] = max(weights.get(stem, 0.0), share)
    return weights
