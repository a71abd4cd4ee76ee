"""The tasks of the demo: what each asks, its right answer, and what is held out of training."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from lora_studio.demo import phrases
from lora_studio.demo.lexicon import lexicon, read_data
from lora_studio.registry import Registry

Split = Literal["train", "test"]
TEST_SHARE = 5
"""One key in this many is held out."""


@dataclass(frozen=True)
class Item:
    """One input and its right answer; `key` (an entity or a combination) and `form` (the kind of
    sentence, where it matters) decide the split."""

    text: str
    target: str
    key: str
    form: str = ""


@dataclass(frozen=True)
class Example:
    """A full request, as typed, and its right answer."""

    prompt: str
    target: str
    key: str


@dataclass(frozen=True)
class Task:
    """One thing an adapter can learn.

    Args:
        name, title, description, tags: how it is shown.
        asks: paraphrases of the request with `{x}` for the input, from full to terse.
        holdout: what is held out of training, in words.
        chained: tasks that solve it together; such a task has tests and no adapter.
        wording: whether the paraphrase is part of what is held out.
        draw: a random item.
    """

    name: str
    title: str
    description: str
    tags: tuple[str, ...]
    asks: tuple[str, ...]
    holdout: str
    chained: tuple[str, ...]
    wording: bool
    draw: Callable[[random.Random], Item]

    def example(self, rng: random.Random, split: Split, asks: slice = slice(None)) -> Example:
        """A random request of one split, under one of the paraphrases in `asks`."""
        while True:
            item = self.draw(rng)
            ask = rng.choice(self.asks[asks]) if self.wording else ""
            key = f"{item.form}{item.key} {ask}".strip()
            if held_out(key) == (split == "test"):
                break
        return self.request(item, ask or rng.choice(self.asks[asks]), key, rng)

    def request(self, item: Item, ask: str, key: str, rng: random.Random) -> Example:
        """The item under one paraphrase; now and then without its full stop, as people type."""
        text, target = item.text, item.target
        if ask.endswith("{x}") and text.endswith(".") and rng.random() < 0.1:
            text, target = text.removesuffix("."), target.removesuffix(".")
        return Example(ask.format(x=text), target, key)


@lru_cache(maxsize=1 << 16)
def held_out(key: str) -> bool:
    """Whether items with this key are kept for testing: one in TEST_SHARE, by hash."""
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16) % TEST_SHARE == 0


def unique_examples(
    task: Task, split: Split, limit: int, rng: random.Random, asks: slice = slice(None)
) -> list[Example]:
    """Up to `limit` requests with different prompts; fewer where the task has no more."""
    found: dict[str, Example] = {}
    for _ in range(limit * 12):
        example = task.example(rng, split, asks)
        found.setdefault(example.prompt, example)
        if len(found) == limit:
            break
    return list(found.values())


def _clause(render: Callable[[phrases.Clause], str]) -> Callable[[random.Random], Item]:
    def draw(rng: random.Random) -> Item:
        clause = phrases.draw_clause(rng)
        return Item(clause.present(), render(clause), clause.key)

    return draw


def _polite(rng: random.Random) -> Item:
    if rng.random() < 0.5:
        clause = phrases.draw_clause(rng, command=True)
        return Item(clause.command(), clause.request(), clause.key, "command ")
    clause = phrases.draw_clause(rng)
    return Item(clause.present(), clause.gently(clause.present()), clause.key)


def _phrase(
    source: Callable[[phrases.NounPhrase], str],
    target: Callable[[phrases.NounPhrase], str],
    *,
    by_noun: bool = False,
) -> Callable[[random.Random], Item]:
    def draw(rng: random.Random) -> Item:
        phrase = phrases.draw_noun_phrase(rng)
        return Item(source(phrase), target(phrase), phrase.noun.english if by_noun else phrase.key)

    return draw


def _capital(rng: random.Random) -> Item:
    country, city = rng.choice(tuple(lexicon().capitals.items()))
    return Item(country, city, country)


def _country(rng: random.Random) -> Item:
    report = phrases.draw_place_report(rng)
    countries = {city: country for country, city in lexicon().capitals.items()}
    return Item(report.sentence, countries[report.city], report.city)


def _field(name: Literal["city", "name"]) -> Callable[[random.Random], Item]:
    def draw(rng: random.Random) -> Item:
        report = phrases.draw_place_report(rng)
        return Item(report.sentence, getattr(report, name), f"{report.name} {report.city}")

    return draw


def _antonym(rng: random.Random) -> Item:
    pair = rng.choice(lexicon().antonyms)
    word, opposite = pair if rng.random() < 0.5 else pair[::-1]
    return Item(word, opposite, " ".join(pair))


def _sentiment(rng: random.Random) -> Item:
    words = lexicon()
    mood = rng.choice(("positive", "negative"))
    word = rng.choice(words.positive if mood == "positive" else words.negative)
    return Item(review(rng, word), mood, word)


def review(rng: random.Random, word: str) -> str:
    """A short review with one opinion word."""
    thing = rng.choice(lexicon().reviewed)
    article = "an" if word[0] in "aeiou" else "a"
    forms = (
        f"The {thing} was {word}.",
        f"What {article} {word} {thing}!",
        f"It was {article} {word} {thing}.",
    )
    return rng.choice(
        (*forms, f"My friends and I found the {thing} {word}.", f"That {thing} is {word}.")
    )


def _reverse(rng: random.Random) -> Item:
    words = list(rng.choice((_colours, _entities, _adjectives))())
    chosen = rng.sample(words, rng.randint(3, 4))
    return Item(" ".join(chosen), " ".join(reversed(chosen)), " ".join(sorted(chosen)))


def _colours() -> list[str]:
    return [noun.english for noun in lexicon().nouns]


def _entities() -> list[str]:
    return [*lexicon().names, *lexicon().capitals.values()]


def _adjectives() -> list[str]:
    return [adjective.english for adjective in lexicon().adjectives]


def _record(report: phrases.Report, *, iso: bool) -> str:
    if report.date is None:
        return f'{{"name": "{report.name}", "city": "{report.city}"}}'
    date = report.date.iso() if iso else report.date.words()
    return f'{{"name": "{report.name}", "date": "{date}"}}'


def _json(rng: random.Random) -> Item:
    dated = rng.random() < 0.5
    report = phrases.draw_date_report(rng) if dated else phrases.draw_place_report(rng)
    detail = report.date.words() if report.date else report.city
    return Item(report.sentence, _record(report, iso=False), f"{report.name} {detail}")


def _json_iso_date(rng: random.Random) -> Item:
    report = phrases.draw_date_report(rng)
    detail = report.date.words() if report.date else ""
    return Item(report.sentence, _record(report, iso=True), f"{report.name} {detail}")


def _iso_date(rng: random.Random) -> Item:
    date = phrases.draw_date(rng)
    roll = rng.random()
    if roll < 0.5:
        return Item(date.words(), date.iso(), date.words())
    words = lexicon()
    form = rng.choice(words.undated if roll < 0.7 else words.dates)
    fields = {"n": rng.choice(words.names), "j": rng.choice(words.jobs)}
    before, after = form.format(d=date.words(), **fields), form.format(d=date.iso(), **fields)
    return Item(before, after, date.words())


_DRAWS: dict[str, Callable[[random.Random], Item]] = {
    "past": _clause(phrases.Clause.past),
    "future": _clause(phrases.Clause.future),
    "past_negative": _clause(phrases.Clause.past_negative),
    "negate": _clause(phrases.Clause.negative),
    "question": _clause(phrases.Clause.question),
    "polite": _polite,
    "french": _phrase(phrases.NounPhrase.english, phrases.NounPhrase.french),
    "french_plural": _phrase(phrases.NounPhrase.french, phrases.NounPhrase.french_plural),
    "plural": _phrase(phrases.NounPhrase.english, phrases.NounPhrase.english_plural, by_noun=True),
    "capital": _capital,
    "country": _country,
    "city": _field("city"),
    "person": _field("name"),
    "antonym": _antonym,
    "sentiment": _sentiment,
    "reverse": _reverse,
    "json": _json,
    "iso_date": _iso_date,
    "json_iso_date": _json_iso_date,
    "past_polite": _clause(lambda clause: clause.gently(clause.past())),
    "future_polite": _clause(lambda clause: clause.gently(clause.future())),
    "plural_french": _phrase(phrases.NounPhrase.english, phrases.NounPhrase.french_plural),
}


def _build() -> Registry[Task]:
    registry: Registry[Task] = Registry("demo task")
    for name, entry in read_data("tasks").items():
        lists = {key: tuple(entry.get(key, ())) for key in ("tags", "asks", "chained")}
        texts = {key: entry[key] for key in ("title", "description", "holdout")}
        wording = bool(entry.get("wording", False))
        task = Task(name=name, draw=_DRAWS[name], wording=wording, **lists, **texts)
        registry.register(name, task)
    return registry


TASKS: Registry[Task] = _build()


def adapter_tasks() -> list[Task]:
    """Tasks that one adapter learns."""
    return [task for task in TASKS if not task.chained]


def chained_tasks() -> list[Task]:
    """Tasks that need two adapters together."""
    return [task for task in TASKS if task.chained]
