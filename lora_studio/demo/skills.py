"""Generic chat skills of the base model: copy, find, replace, quote. None is a demo task."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

from lora_studio.demo import phrases
from lora_studio.demo.lexicon import lexicon, read_data

Skill = Callable[[random.Random], tuple[str, str]]

_ORDINALS = ("first", "second", "third", "fourth")


def words(rng: random.Random, low: int = 2, high: int = 6) -> list[str]:
    """A few random words of the lexicon."""
    pools = (_nouns, _entities, _qualities, _french, _requests)
    pool = rng.choice(pools)() if rng.random() < 0.6 else [w for p in pools for w in p()]
    return [rng.choice(pool) for _ in range(rng.randint(low, high))]


def _nouns() -> list[str]:
    return [form for noun in lexicon().nouns for form in (noun.english, noun.english_plural)]


def _entities() -> list[str]:
    world = lexicon()
    return [*world.names, *world.capitals, *world.capitals.values(), *world.months, *world.weekdays]


def _qualities() -> list[str]:
    english = lexicon()
    pairs = [word for pair in english.antonyms for word in pair]
    moods = ["positive", "negative", *english.positive, *english.negative]
    return [*pairs, *moods, *(adjective.english for adjective in english.adjectives)]


def _french() -> list[str]:
    return [form for noun in lexicon().nouns for form in (noun.french, noun.french_plural)]


@cache
def _requests() -> list[str]:
    """The words people use to ask for a task, as bare words: the base can read and copy them."""
    asked = " ".join(ask for entry in read_data("tasks").values() for ask in entry["asks"])
    return sorted(set(re.findall(r"[^\W\d_]{2,}", asked)))


def sentence(rng: random.Random) -> str:
    """A sentence or question about someone, in any tense."""
    clause = phrases.draw_clause(rng)
    roll = rng.random()
    if roll < 0.25:
        return phrases.draw_report(rng).sentence
    if roll < 0.35:
        asked = phrases.draw_clause(rng, command=True)
        return rng.choice((asked.command(), asked.request(), clause.gently(clause.present())))
    forms = (
        clause.present,
        clause.past,
        clause.future,
        clause.negative,
        clause.past_negative,
        clause.question,
    )
    return rng.choice(forms)()


def noun_phrase(rng: random.Random) -> str:
    """A noun phrase in either language and number."""
    phrase = phrases.draw_noun_phrase(rng)
    forms = (phrase.english, phrase.english_plural, phrase.french, phrase.french_plural)
    return rng.choice(forms)()


def record(rng: random.Random) -> str:
    """A small JSON record with unrelated values."""
    world = lexicon()
    values: dict[str, str] = {
        "name": rng.choice(world.names),
        "city": rng.choice(tuple(world.capitals.values())),
        "date": rng.choice((phrases.draw_date(rng).words(), phrases.draw_date(rng).iso())),
        "word": rng.choice(words(rng)),
        "day": rng.choice(world.weekdays),
    }
    keys = rng.sample(list(values), rng.randint(1, 3))
    return "{" + ", ".join(f'"{key}": "{values[key]}"' for key in keys) + "}"


def any_text(rng: random.Random) -> str:
    """Text of any kind that the demo may meet."""
    roll = rng.random()
    if roll < 0.35:
        return sentence(rng)
    if roll < 0.55:
        return noun_phrase(rng)
    if roll < 0.7:
        return record(rng)
    if roll < 0.8:
        return (
            phrases.draw_date(rng).iso() if rng.random() < 0.5 else phrases.draw_date(rng).words()
        )
    return " ".join(words(rng))


def _say(rng: random.Random, text: str, *asks: str) -> str:
    return rng.choice(asks).format(x=text)


def _copy(rng: random.Random) -> tuple[str, str]:
    text = any_text(rng)
    return _say(
        rng, text, "Repeat: {x}", "Copy this: {x}", "Say {x}", "{x} Say that again.", "echo: {x}"
    ), text


def _twice(rng: random.Random) -> tuple[str, str]:
    text = any_text(rng) if rng.random() < 0.3 else " ".join(words(rng, 1, 3))
    return _say(
        rng, text, "Say it twice: {x}", "Two times: {x}", "{x} Say that twice."
    ), f"{text} {text}"


def _quotable(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return " ".join(words(rng, 1, 2))
    return rng.choice(
        (*lexicon().names, *lexicon().capitals.values(), phrases.draw_date(rng).words())
    )


def _quote(rng: random.Random) -> tuple[str, str]:
    text = any_text(rng) if rng.random() < 0.3 else _quotable(rng)
    return _say(
        rng, text, "Put it in quotes: {x}", "Quote this: {x}", "with quotes: {x}"
    ), f'"{text}"'


def _unquote(rng: random.Random) -> tuple[str, str]:
    text = _quotable(rng)
    return _say(rng, text, 'Take off the quotes: "{x}"', 'No quotes: "{x}"'), text


def _pick(rng: random.Random) -> tuple[str, str]:
    chosen = words(rng, 3, 6)
    index = rng.randrange(min(len(chosen), 4))
    ordinal, text = _ORDINALS[index], " ".join(chosen)
    if rng.random() < 0.3:
        index, ordinal = -1, "final"
    asks = (
        f"What is the {ordinal} word here? {{x}}",
        f"{ordinal} word: {{x}}",
        f"{{x}} Say the {ordinal} word.",
    )
    return _say(rng, text, *asks), chosen[index]


def _neighbour(rng: random.Random) -> tuple[str, str]:
    chosen = list(dict.fromkeys(words(rng, 4, 7)))
    if len(chosen) < 2:
        return _copy(rng)
    index = rng.randrange(len(chosen) - 1)
    text, left, right = " ".join(chosen), chosen[index], chosen[index + 1]
    if rng.random() < 0.5:
        return _say(rng, text, f"Which word follows {left}? {{x}}", f"after {left}: {{x}}"), right
    return _say(
        rng, text, f"Which word stands before {right}? {{x}}", f"before {right}: {{x}}"
    ), left


def _replace(rng: random.Random) -> tuple[str, str]:
    chosen, new = words(rng, 3, 6), words(rng, 1, 1)[0]
    old = rng.choice(chosen)
    answer = " ".join(new if word == old else word for word in chosen)
    asks = (
        f"Replace {old} by {new}: {{x}}",
        f"{{x}} Say {new} for {old}.",
        f"{old} becomes {new}: {{x}}",
    )
    return _say(rng, " ".join(chosen), *asks), answer


def _remove(rng: random.Random) -> tuple[str, str]:
    chosen = words(rng, 3, 6)
    old = rng.choice(chosen)
    answer = " ".join(word for word in chosen if word != old) or "nothing"
    return _say(rng, " ".join(chosen), f"Leave out {old}: {{x}}", f"without {old}: {{x}}"), answer


def _contains(rng: random.Random) -> tuple[str, str]:
    chosen = words(rng, 3, 6)
    word = rng.choice(chosen) if rng.random() < 0.5 else words(rng, 1, 1)[0]
    asks = (f"Is the word {word} in here? {{x}}", f"{{x}} Did I say {word}?")
    return _say(rng, " ".join(chosen), *asks), "yes" if word in chosen else "no"


def _prefix(rng: random.Random) -> tuple[str, str]:
    text, word = any_text(rng), words(rng, 1, 1)[0]
    if rng.random() < 0.5:
        return _say(
            rng, text, f"Begin with {word}: {{x}}", f"Say {word}, then this: {{x}}"
        ), f"{word} {text}"
    return _say(
        rng, text, f"End with {word}: {{x}}", f"Say this, then {word}: {{x}}"
    ), f"{text} {word}"


def _hyphenate(rng: random.Random) -> tuple[str, str]:
    chosen = words(rng, 2, 4)
    asks = ("Join with hyphens: {x}", "hyphens: {x}")
    return _say(rng, " ".join(chosen), *asks), "-".join(chosen)


SKILLS: tuple[Skill, ...] = (
    _copy,
    _copy,
    _twice,
    _quote,
    _quote,
    _unquote,
    _pick,
    _pick,
    _neighbour,
    _replace,
    _replace,
    _remove,
    _contains,
    _prefix,
    _hyphenate,
)


def draw_skill(rng: random.Random) -> tuple[str, str]:
    """A random request and its right answer."""
    return rng.choice(SKILLS)(rng)
