"""The grammar writes correct English and French."""

from __future__ import annotations

import random

import pytest

from lora_studio.demo.lexicon import lexicon
from lora_studio.demo.phrases import Clause, Date, Determiner, NounPhrase, draw_clause


def phrase(determiner: Determiner, adjective: str | None, noun: str) -> NounPhrase:
    words = lexicon()
    chosen = next((a for a in words.adjectives if a.english == adjective), None)
    return NounPhrase(determiner, chosen, next(n for n in words.nouns if n.english == noun))


@pytest.mark.parametrize(
    ("determiner", "adjective", "noun", "one", "many"),
    [
        ("the", None, "church", "l'église", "les églises"),
        ("a", "small", "house", "une petite maison", "de petites maisons"),
        ("the", "red", "car", "la voiture rouge", "les voitures rouges"),
        ("the", "old", "tree", "le vieil arbre", "les vieux arbres"),
        ("my", None, "island", "mon île", "mes îles"),
        ("my", "beautiful", "island", "ma belle île", "mes belles îles"),
        ("this", None, "hotel", "cet hôtel", "ces hôtels"),
        ("this", "new", "computer", "ce nouvel ordinateur", "ces nouveaux ordinateurs"),
        ("a", "white", "horse", "un cheval blanc", "des chevaux blancs"),
        ("the", "strange", "clock", "l'horloge étrange", "les horloges étranges"),
    ],
)
def test_french_has_articles_elision_and_adjective_order(
    determiner: Determiner, adjective: str | None, noun: str, one: str, many: str
) -> None:
    made = phrase(determiner, adjective, noun)
    assert made.french() == one
    assert made.french_plural() == many


def test_english_plurals_carry_their_determiner() -> None:
    assert phrase("a", "old", "church").english() == "an old church"
    assert phrase("a", "old", "church").english_plural() == "some old churches"
    assert phrase("this", None, "child").english_plural() == "these children"


def test_a_clause_has_every_tense() -> None:
    buy = next(v for v in lexicon().verbs if v.base == "buy")
    clause = Clause("the children", True, buy, "a bike", "on Monday")
    assert clause.present() == "The children buy a bike on Monday."
    assert clause.past() == "The children bought a bike on Monday."
    assert clause.future() == "The children will buy a bike on Monday."
    assert clause.negative() == "The children do not buy a bike on Monday."
    assert clause.past_negative() == "The children did not buy a bike on Monday."
    assert clause.question() == "Do the children buy a bike on Monday?"
    assert clause.request() == "Could you please buy a bike on Monday?"
    assert clause.gently(clause.past()) == "If I may say so, the children bought a bike on Monday."


def test_a_name_keeps_its_capital_when_put_politely() -> None:
    open_ = next(v for v in lexicon().verbs if v.base == "open")
    clause = Clause("Anna", False, open_, "the door", "")
    assert clause.gently(clause.present()) == "If I may say so, Anna opens the door."
    assert clause.question() == "Does Anna open the door?"


def test_dates_are_written_in_words_and_in_iso_form() -> None:
    assert Date(3, 5, 2024).words() == "3 May 2024"
    assert Date(3, 5, 2024).iso() == "2024-05-03"


def test_only_verbs_that_can_be_asked_for_become_commands() -> None:
    rng = random.Random(1)
    assert all(draw_clause(rng, command=True).verb.command for _ in range(200))


def test_every_word_of_the_lexicon_is_text() -> None:
    """YAML reads true, no and on as truth values unless they are quoted."""
    words = lexicon()
    assert all(isinstance(word, str) for pair in words.antonyms for word in pair)
    assert all(isinstance(word, str) for verb in words.verbs for word in verb.objects)
    opposites = [word for pair in words.antonyms for word in pair]
    assert len(opposites) == len(set(opposites)), "a word with two opposites has no one answer"
