"""The grammar of the demo: clauses in every tense, noun phrases in two languages, dates."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from lora_studio.demo.lexicon import Adjective, Noun, Verb, lexicon

Determiner = Literal["the", "a", "my", "this"]
DETERMINERS: tuple[Determiner, ...] = ("the", "a", "my", "this")
VOWELS = "aeiouhéèêâîôûœ"  # every initial h in the lexicon is mute
_PLURAL = {"the": "the", "a": "some", "my": "my", "this": "these"}


def capitalise(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Clause:
    """Who does what to what, and when; rendered in any tense."""

    subject: str
    plural: bool
    verb: Verb
    object: str
    tail: str

    @property
    def key(self) -> str:
        """What makes the clause a new combination: the verb and its object."""
        return f"{self.verb.base} {self.object}"

    def _sentence(self, *words: str, end: str = ".") -> str:
        parts = (*words, self.object, self.tail)
        return capitalise(" ".join(part for part in parts if part)) + end

    def present(self) -> str:
        return self._sentence(self.subject, self.verb.base if self.plural else self.verb.third)

    def past(self) -> str:
        return self._sentence(self.subject, self.verb.past)

    def future(self) -> str:
        return self._sentence(self.subject, "will", self.verb.base)

    def negative(self) -> str:
        auxiliary = "do not" if self.plural else "does not"
        return self._sentence(self.subject, auxiliary, self.verb.base)

    def past_negative(self) -> str:
        return self._sentence(self.subject, "did not", self.verb.base)

    def question(self) -> str:
        auxiliary = "do" if self.plural else "does"
        return self._sentence(auxiliary, self.subject, self.verb.base, end="?")

    def past_question(self) -> str:
        return self._sentence("did", self.subject, self.verb.base, end="?")

    def command(self) -> str:
        return self._sentence(self.verb.base)

    def request(self) -> str:
        """The command as a polite question."""
        return self._sentence("could you please", self.verb.base, end="?")

    def gently(self, sentence: str) -> str:
        """A statement of this clause, put politely."""
        first, rest = sentence.split(" ", 1)
        proper = first in lexicon().names
        return f"If I may say so, {first if proper else first.lower()} {rest}"


def draw_clause(rng: random.Random, *, command: bool = False) -> Clause:
    """A random sensible clause; with `command`, one that can be asked for."""
    words = lexicon()
    verb = rng.choice([v for v in words.verbs if v.command] if command else words.verbs)
    roll = rng.random()
    plural = roll > 0.85
    if roll < 0.6:
        subject = rng.choice(words.names)
    else:
        subject = rng.choice(words.plural_subjects if plural else words.singular_subjects)
    tail = rng.choice(words.tails) if rng.random() < 0.5 else ""
    return Clause(subject, plural, verb, rng.choice(verb.objects), tail)


@dataclass(frozen=True)
class NounPhrase:
    """A determiner, perhaps an adjective, and a noun, in English and in French."""

    determiner: Determiner
    adjective: Adjective | None
    noun: Noun

    @property
    def key(self) -> str:
        """What makes the phrase a new combination: the noun and its adjective."""
        return f"{self.adjective.english if self.adjective else '-'} {self.noun.english}"

    def english(self) -> str:
        core = self._english_core(self.noun.english)
        vowel = core[0] in "aeiou"
        return f"{'an' if self.determiner == 'a' and vowel else self.determiner} {core}"

    def english_plural(self) -> str:
        return f"{_PLURAL[self.determiner]} {self._english_core(self.noun.english_plural)}"

    def _english_core(self, noun: str) -> str:
        return f"{self.adjective.english} {noun}" if self.adjective else noun

    def french(self) -> str:
        feminine = self.noun.gender == "f"
        core = self._french_core()
        vowel = core[0] in VOWELS
        if self.determiner == "the" and vowel:
            return f"l'{core}"
        article = {
            "the": ("le", "la"),
            "a": ("un", "une"),
            "my": ("mon", "mon" if vowel else "ma"),
            "this": ("cet" if vowel else "ce", "cette"),
        }[self.determiner][feminine]
        return f"{article} {core}"

    def _french_core(self) -> str:
        noun, adjective = self.noun.french, self.adjective
        if adjective is None:
            return noun
        form = adjective.feminine if self.noun.gender == "f" else adjective.masculine
        if not adjective.before:
            return f"{noun} {form}"
        if self.noun.gender == "m" and noun[0] in VOWELS:
            form = adjective.masculine_vowel
        return f"{form} {noun}"

    def french_plural(self) -> str:
        noun, adjective = self.noun.french_plural, self.adjective
        articles = {"the": "les", "a": "des", "my": "mes", "this": "ces"}
        article = articles[self.determiner]
        if adjective is None:
            return f"{article} {noun}"
        feminine = self.noun.gender == "f"
        form = adjective.feminine_plural if feminine else adjective.masculine_plural
        if not adjective.before:
            return f"{article} {noun} {form}"
        return f"{'de' if self.determiner == 'a' else article} {form} {noun}"


def draw_noun_phrase(rng: random.Random, plain: float = 0.2) -> NounPhrase:
    """A random noun phrase whose adjective suits its noun; without adjective at rate `plain`."""
    words = lexicon()
    noun = rng.choice(words.nouns)
    fitting = [a for a in words.adjectives if noun.kind in a.kinds]
    adjective = None if rng.random() < plain else rng.choice(fitting)
    elided = noun.french[0] in VOWELS and rng.random() < 0.5
    return NounPhrase("the" if elided else rng.choice(DETERMINERS), adjective, noun)


@dataclass(frozen=True)
class Date:
    """A day between 1950 and 2030."""

    day: int
    month: int
    year: int

    def words(self) -> str:
        return f"{self.day} {lexicon().months[self.month - 1]} {self.year}"

    def iso(self) -> str:
        return f"{self.year}-{self.month:02d}-{self.day:02d}"


def draw_date(rng: random.Random) -> Date:
    """A random date; day 1 to 28, so that every one exists."""
    return Date(rng.randint(1, 28), rng.randint(1, 12), rng.randint(1950, 2030))


@dataclass(frozen=True)
class Report:
    """A sentence about a person, and the city or date it mentions."""

    sentence: str
    name: str
    city: str = ""
    date: Date | None = None


def draw_place_report(rng: random.Random) -> Report:
    """A sentence that mentions a person and a capital city."""
    words = lexicon()
    name, city = rng.choice(words.names), rng.choice(tuple(words.capitals.values()))
    fields = {"n": name, "c": city, "j": rng.choice(words.jobs), "w": rng.choice(words.weekdays)}
    return Report(rng.choice(words.places).format(**fields), name, city=city)


def draw_date_report(rng: random.Random) -> Report:
    """A sentence that mentions a person and a date in words."""
    words = lexicon()
    name, date = rng.choice(words.names), draw_date(rng)
    fields = {"n": name, "j": rng.choice(words.jobs), "d": date.words()}
    return Report(rng.choice(words.dates).format(**fields), name, date=date)


def draw_report(rng: random.Random) -> Report:
    """Any sentence with a place or a date, perhaps without a person."""
    roll = rng.random()
    if roll < 0.45:
        return draw_place_report(rng)
    if roll < 0.85:
        return draw_date_report(rng)
    date = draw_date(rng)
    return Report(rng.choice(lexicon().undated).format(d=date.words()), "", date=date)
