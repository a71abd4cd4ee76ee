"""The demo's tokenizer and chat template; byte-level BPE, so that any typed text can be read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lora_studio.demo.corpus import documents
from lora_studio.demo.lexicon import lexicon
from lora_studio.demo.phrases import VOWELS
from lora_studio.demo.tasks import TASKS, held_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
PAD, START, END, USER, ASSISTANT = range(5)
VOCABULARY = 2816
MAX_LENGTH = 256

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|> ' + (message['content'] | trim) + '</s>' }}"
    "{% else %}"
    "{{ '<s><|user|> ' + (message['content'] | trim) }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""`<s><|user|> prompt<|assistant|> answer</s>`; the space keeps a word one token everywhere."""


def training_text(base_documents: int, per_task: int, seed: int) -> Iterator[str]:
    """Corpus text, names, then requests and answers of every task: merges may know their words."""
    for document in documents(base_documents, seed):
        if document.prompt is not None:
            yield f" {document.prompt}"
        yield f" {document.text}"
    world = lexicon()
    for word in (*world.names, *world.capitals, *world.capitals.values()):
        yield from [f' {word} "{word}"'] * 160  # whole words, with and without a space before
    for noun in world.nouns:
        elided = f"l'{noun.french}" if noun.french[0] in VOWELS else ""
        yield from [f" {noun.french} {noun.french_plural} {elided}"] * 160
    for quality in world.adjectives:
        forms = (quality.masculine, quality.feminine)
        forms += (quality.masculine_plural, quality.feminine_plural, quality.masculine_vowel)
        yield from [" " + " ".join(forms)] * 160
    rng = random.Random(seed + 1)
    for task in TASKS:
        for _ in range(per_task):
            item = task.draw(rng)
            while held_out(item.key):
                item = task.draw(rng)
            example = task.request(item, rng.choice(task.asks), item.key, rng)
            yield f" {example.prompt}"
            yield f" {example.target}"


def train_tokenizer(seed: int, base_documents: int = 40_000) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on documents of the corpus and 800 requests a task."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(base_documents, 800, seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """Token ids of a request, up to the point where the answer begins."""
    text = tokenizer.encode(f" {prompt.strip()}", add_special_tokens=False)
    return [START, USER, *text, ASSISTANT]


def answer_ids(tokenizer: PreTrainedTokenizerFast, answer: str) -> list[int]:
    """Token ids of an answer, with the end mark."""
    return [*tokenizer.encode(f" {answer}", add_special_tokens=False), END]
