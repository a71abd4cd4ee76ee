"""Trains the demo's base model: a small Llama on the corpus, by Muon (matrices) and AdamW."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_studio.demo import batching
from lora_studio.demo.corpus import Document, documents
from lora_studio.demo.skills import draw_skill
from lora_studio.demo.tasks import TASKS
from lora_studio.demo.tokenizer import END, MAX_LENGTH, PAD, START, train_tokenizer
from lora_studio.demo.vocabulary import WORDS_FILE, training_words

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseSpec:
    """Shape and training of the base model.

    Args:
        hidden, intermediate, layers, heads: shape of the Llama; embeddings are tied.
        steps, batch: optimiser steps, and documents in each.
        rate: peak learning rate of both optimisers.
        masked: share of requests whose prompt carries no loss.
        tokenizer_documents: documents that the tokenizer is trained on.
    """

    hidden: int = 160
    intermediate: int = 448
    layers: int = 4
    heads: int = 5
    steps: int = 3000
    batch: int = 64
    rate: float = 4e-3
    masked: float = 0.7
    tokenizer_documents: int = 40_000
    seed: int = 20

    @property
    def documents(self) -> int:
        return self.steps * self.batch


def new_model(spec: BaseSpec, vocabulary: int) -> LlamaForCausalLM:
    """An untrained model under the spec's seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(spec.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.02,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def encode_corpus(
    tokenizer: PreTrainedTokenizerFast, spec: BaseSpec
) -> tuple[list[batching.TokenRow], Counter[str]]:
    """The whole corpus as token rows, and how often each word occurs."""
    rng = random.Random(spec.seed + 2)
    words: Counter[str] = Counter()
    rows = []
    for document in documents(spec.documents, spec.seed):
        words.update(training_words(f"{document.prompt or ''} {document.text}"))
        rows.append(_encode(tokenizer, document, rng.random() < spec.masked))
    return rows, words


def _encode(
    tokenizer: PreTrainedTokenizerFast, document: Document, masked: bool
) -> batching.TokenRow:
    if document.prompt is None:
        text = tokenizer.encode(f" {document.text}", add_special_tokens=False)
        return batching.TokenRow([START, *text, END], 1)
    row = batching.encode_chat(tokenizer, document.prompt, document.text)
    return row if masked else batching.TokenRow(row.ids, 1)


def _optimisers(model: LlamaForCausalLM, spec: BaseSpec) -> list[Any]:
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(
        matrices, lr=spec.rate, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=spec.rate, betas=(0.9, 0.95), weight_decay=0.0)
    for optimiser in (muon, adamw):
        for group in optimiser.param_groups:
            group["peak"] = spec.rate
    return [muon, adamw]


def train(model: Any, rows: list[batching.TokenRow], spec: BaseSpec, device: str) -> None:
    """One pass over the corpus in bf16 autocast."""
    import torch

    model.to(device).train()
    optimisers = _optimisers(model, spec)
    started, mean = time.process_time(), 0.0
    batches = batching.bucketed(rows, spec.batch, random.Random(spec.seed + 3))
    for step, items in enumerate(batches):
        batching.set_rates(optimisers, batching.trapezoid(step, spec.steps, 60, 0.35))
        ids, labels = batching.collate(items, device)
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            loss = batching.next_token_loss(hidden, model.lm_head, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0 or step == spec.steps - 1:
            used = time.process_time() - started
            log.info("base: step %d of %d, loss %.3f, %.0f CPU-s", step + 1, spec.steps, mean, used)


def skill_examples(count: int, seed: int) -> list[tuple[str, str]]:
    """Fresh generic requests with their answers."""
    rng = random.Random(seed)
    return [draw_skill(rng) for _ in range(count)]


def task_words(per_task: int = 2000, seed: int = 5) -> Counter[str]:
    """Words of the requests and answers of every task, which the adapters see in training."""
    rng = random.Random(seed)
    words: Counter[str] = Counter()
    for task in TASKS:
        for _ in range(per_task):
            example = task.example(rng, "train")
            words.update(training_words(f"{example.prompt} {example.target}"))
    return words


def save(model: Any, tokenizer: PreTrainedTokenizerFast, words: Counter[str], folder: Path) -> None:
    """Writes weights in bf16, generation defaults, tokenizer and the list of known words."""
    import torch
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    model.to("cpu", torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=START, eos_token_id=END, pad_token_id=PAD, max_new_tokens=48, do_sample=False
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    known = sorted(words)
    (folder / WORDS_FILE).write_text("\n".join(known) + "\n", encoding="utf-8")


def build_base(folder: Path, device: str, spec: BaseSpec | None = None) -> dict[str, int]:
    """Trains tokenizer and model from nothing, writes them to `folder`, returns what it took."""
    spec = spec or BaseSpec()
    started = time.process_time()
    tokenizer = train_tokenizer(spec.seed, spec.tokenizer_documents)
    rows, words = encode_corpus(tokenizer, spec)
    tokens = sum(len(row.ids) for row in rows)
    log.info("base: %d documents, %d tokens, %d words", len(rows), tokens, len(words))
    model = new_model(spec, len(tokenizer))
    log.info("base: %d parameters", sum(p.numel() for p in model.parameters()))
    train(model, rows, spec, device)
    words.update(task_words())
    save(model, tokenizer, words, folder)
    return {
        "cpu_seconds": round(time.process_time() - started),
        "documents": len(rows),
        "tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
