"""The word-level CLIP tokenizer: byte-pair merges learned until every word of the world is one
token; other words fall into pieces that nothing was trained on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lora_studio.demo.image.config import MAX_TOKENS
from lora_studio.demo.image.words import known_words

if TYPE_CHECKING:
    import torch

START, END = "<|startoftext|>", "<|endoftext|>"


def new_tokenizer() -> Any:
    """A `CLIPTokenizer` whose vocabulary holds bytes, the world's words, and their beginnings."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
        special_tokens=[],
    )
    learner.train_from_iterator([" ".join(known_words())] * 2, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    pieces = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(m) for m in merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    words: dict[str, Any] = {"vocab": vocabulary, "merges": [tuple(m) for m in merges]}
    return CLIPTokenizer(**words, model_max_length=MAX_TOKENS)


def encode(tokenizer: Any, captions: list[str]) -> torch.Tensor:
    """(n, 24) token ids, padded as the pipeline pads."""
    return tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
