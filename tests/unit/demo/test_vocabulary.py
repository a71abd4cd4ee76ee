"""Unknown words are named and examples are offered, without torch."""

from __future__ import annotations

import subprocess
import sys

from lora_studio.demo.vocabulary import example_prompts, training_words, unknown_words


def test_unknown_words_are_named_once_and_in_order() -> None:
    assert unknown_words("Turn the sentence into the past tense: Anna opens the door.") == []
    text = "Anna flurbles the gizmotron, then flurbles again"
    assert unknown_words(text) == ["flurbles", "gizmotron"]


def test_case_digits_and_marks_do_not_make_a_word_unknown() -> None:
    assert unknown_words("ANNA, 3 May 2024!? l'église — {}") == []
    assert training_words("L'église, 12 x") == ["l", "église", "x"]


def test_examples_are_known_to_the_demo_and_follow_their_seed() -> None:
    chosen = example_prompts(6, seed=1)
    assert len(set(chosen)) == 6
    assert chosen == example_prompts(6, seed=1)
    assert chosen != example_prompts(6, seed=2)
    assert [unknown_words(prompt) for prompt in chosen] == [[]] * 6


def test_the_hint_needs_no_torch() -> None:
    code = (
        "import sys; from lora_studio.demo.vocabulary import unknown_words; unknown_words('hello');"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
