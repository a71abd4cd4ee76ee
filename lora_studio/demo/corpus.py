"""What the base model reads: generic skills, plain facts and little stories; no task is asked.

The facts hold the knowledge (tenses, French, capitals) that an adapter later draws out. Every
token that an adapter must write occurs here: a token never seen in training cannot be learned
by a low-rank update of the linear layers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lora_studio.demo import phrases, skills
from lora_studio.demo.lexicon import lexicon
from lora_studio.demo.tasks import review


@dataclass(frozen=True)
class Document:
    """One training text: a request with its answer, or plain text (`prompt` is None)."""

    prompt: str | None
    text: str


def _tenses(rng: random.Random) -> str:
    c = phrases.draw_clause(rng)
    now, then, later = c.present(), c.past(), c.future()
    low = phrases.capitalise
    forms = (
        f"Today: {now} Yesterday: {then} Tomorrow: {later}",
        f"{now} {then}",
        f"{now} It was the same before: {then}",
        f"{now} It will be the same: {later}",
        f"{then} {later} {now}",
        f"We know two things. {low(later)} {low(now)}",
        f"{now} A day later we say: {then}",
    )
    return rng.choice(forms)


def _denials(rng: random.Random) -> str:
    c = phrases.draw_clause(rng)
    forms = (
        f"{c.present()} No: {c.negative()}",
        f"{c.question()} No. {c.negative()}",
        f"{c.question()} Yes. {c.present()}",
        f"{c.past_question()} No. {c.past_negative()}",
        f"{c.past_question()} Yes. {c.past()}",
        f"{c.past()} Is that so? No, it is false. {c.past_negative()}",
        f"Some say: {c.present()} Others say: {c.negative()}",
        f"{c.negative()} {c.past_negative()}",
        f"Someone asks: {c.question()} We answer: {c.present()}",
        f"{c.present()} But before that, {c.past_negative()}",
    )
    return rng.choice(forms)


def _manners(rng: random.Random) -> str:
    c = phrases.draw_clause(rng, command=True)
    said = rng.choice((c.present(), c.past(), c.future()))
    forms = (
        f"A king says: {c.command()} A butler says: {c.request()}",
        f"{c.command()} It is nicer so: {c.request()}",
        f"{c.request()} Thank you.",
        f"{said} A butler says: {c.gently(said)}",
        f"{c.gently(said)} Thank you.",
    )
    return rng.choice(forms)


def _french(rng: random.Random) -> str:
    p = phrases.draw_noun_phrase(rng)
    one, many = p.french(), p.french_plural()
    forms = (
        f"In France, {p.english()} is {one}.",
        f"{phrases.capitalise(p.english())} is {one} in Paris.",
        f"{phrases.capitalise(one)} means {p.english()}.",
        f"{p.english()} = {one}",
        f"One: {one}. Two and more: {many}.",
        f"First there was {one}, then there were {many}.",
        f"{p.english_plural()} = {many}",
        f"{one}, {many}",
    )
    return rng.choice(forms)


def _plurals(rng: random.Random) -> str:
    p = phrases.draw_noun_phrase(rng, plain=0.4)
    one, many = p.english(), p.english_plural()
    forms = (
        f"One {p.noun.english}, two {p.noun.english_plural}.",
        f"Here is {one}. Here are {many}.",
        f"First we saw {one}, then we saw {many}.",
        f"{one}, {many}",
        f"Not {one} but {many}.",
        f"Many {p.noun.english_plural} and one {p.noun.english}.",
    )
    return rng.choice(forms)


def _capitals(rng: random.Random) -> str:
    country, city = rng.choice(tuple(lexicon().capitals.items()))
    person = rng.choice(lexicon().names)
    forms = (
        f"The capital of {country} is {city}.",
        f"{city} is the capital of {country}.",
        f"{city} is in {country}.",
        f"In {country}, the main city is {city}.",
        f"{person} lives in {city}, so {person} lives in {country}.",
        f"{person} was in {country} and saw {city}.",
        f"{country}: {city}",
        f"{city}, {country}",
        f"{phrases.draw_place_report(rng).sentence}",
    )
    return rng.choice(forms)


def _opposites(rng: random.Random) -> str:
    pair = rng.choice(lexicon().antonyms)
    one, other = pair if rng.random() < 0.5 else pair[::-1]
    forms = (
        f"The opposite of {one} is {other}.",
        f"What is not {one} is {other}.",
        f"{phrases.capitalise(one)} and {other} are opposites.",
        f"First it was {one}, then it was {other}.",
        f"{one}, not {other}",
        f"{one} or {other}?",
        f"If it were not {one} it would be {other}.",
    )
    return rng.choice(forms)


def _opinions(rng: random.Random) -> str:
    words = lexicon()
    mood = rng.choice(("positive", "negative"))
    other = "negative" if mood == "positive" else "positive"
    word = rng.choice(words.positive if mood == "positive" else words.negative)
    said = review(rng, word)
    forms = (
        f"{said} That is a {mood} opinion.",
        f"{phrases.capitalise(word)} is a {mood} word.",
        f"{said} The mood is {mood}, not {other}.",
        f"Words like {word} are {mood}.",
        f"A {mood} review: {said}",
    )
    return rng.choice(forms)


def _calendar(rng: random.Random) -> str:
    words = lexicon()
    date, report = phrases.draw_date(rng), phrases.draw_report(rng)
    month, index = words.months[date.month - 1], date.month - 1
    day = rng.randrange(7)
    forms = (
        f"{month} is month {date.month:02d} of the year.",
        f"{date.words()} is the same day as {date.iso()}.",
        f"{date.iso()}: that was {date.words()}.",
        f"Day {date.day} is {date.day:02d}. {month} is {date.month:02d}.",
        f"After {words.months[index]} comes {words.months[(index + 1) % 12]}.",
        f"After {words.weekdays[day]} comes {words.weekdays[(day + 1) % 7]}.",
        report.sentence,
    )
    return rng.choice(forms)


def _listing(rng: random.Random) -> str:
    words = lexicon()
    forms = (
        lambda: skills.record(rng),
        lambda: skills.record(rng),
        lambda: " ".join(skills.words(rng, 3, 8)),
        lambda: f"{rng.choice(words.names)} is a person.",
        lambda: f"{rng.choice(tuple(words.capitals.values()))} is a city.",
        lambda: f"{rng.choice(tuple(words.capitals))} is a country.",
        lambda: "My list: " + ", ".join(skills.words(rng, 3, 6)) + ".",
    )
    return rng.choice(forms)()


def _story(rng: random.Random) -> str:
    hero = rng.choice(lexicon().names)
    parts = [f"{hero} lives in {rng.choice(tuple(lexicon().capitals.values()))}."]
    for _ in range(rng.randint(1, 2)):
        clause = phrases.draw_clause(rng)
        parts.append(rng.choice((clause.present, clause.past, clause.negative, clause.future))())
    place = phrases.draw_report(rng).sentence
    parts.insert(rng.randrange(len(parts) + 1), place)
    parts.append(review(rng, rng.choice((*lexicon().positive, *lexicon().negative))))
    return " ".join(parts[: rng.randint(2, 4)])


_FACTS: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (_tenses, 5),
    (_denials, 5),
    (_manners, 3),
    (_french, 10),
    (_plurals, 4),
    (_capitals, 5),
    (_opposites, 4),
    (_opinions, 3),
    (_calendar, 4),
    (_listing, 3),
)


def draw_document(rng: random.Random) -> Document:
    """45 % generic requests, 43 % facts, 12 % stories."""
    roll = rng.random()
    if roll < 0.45:
        prompt, answer = skills.draw_skill(rng)
        return Document(prompt, answer)
    if roll < 0.88:
        kinds, weights = zip(*_FACTS, strict=True)
        return Document(None, rng.choices(kinds, weights)[0](rng))
    return Document(None, _story(rng))


def documents(count: int, seed: int) -> Iterator[Document]:
    """A fixed stream of documents."""
    rng = random.Random(seed)
    for _ in range(count):
        yield draw_document(rng)
