"""Runs rows, each with its own adapters, on a causal language model: generation and scoring."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.choosing import Slot
from lora_studio.engines.decoding import Decoder, cache_argument
from lora_studio.engines.loading import choose_device, load_base
from lora_studio.engines.router_parts import RouterParts
from lora_studio.engines.rows import (
    GenerateResult,
    Row,
    RowOutput,
    RowPlan,
    RowScore,
    RowUpdate,
    Sampling,
    ScoreRow,
)
from lora_studio.engines.streaming import TextStream
from lora_studio.errors import Cancelled, InvalidRequest, LoraStudioError

__all__ = [
    "GenerateResult",
    "Row",
    "RowOutput",
    "RowPlan",
    "RowScore",
    "RowUpdate",
    "Sampling",
    "ScoreRow",
    "TextEngine",
]

log = logging.getLogger(__name__)


class TextEngine:
    """A base model with its adapter bank and decode loop.

    Args:
        base: the demo's name, a local folder or a Hub id.
        device: "auto", "cpu", "cuda" or "cuda:N".
        max_rows: rows of one batch; more wait and join as others end.

    Raises:
        LoraStudioError: the model cannot be loaded, with what to do next.
    """

    def __init__(self, base: str | Path, device: str = "auto", max_rows: int = 32) -> None:
        self.base = str(base)
        self.device = choose_device(device)
        self.model, self.tokenizer = load_base(base, self.device)
        if cache_argument(self.model) is None:
            raise LoraStudioError(
                f"'{base}' keeps no key-value cache, which the decode loop needs. Choose a "
                "transformer model."
            )
        self.bank = AdapterBank(dict(self.model.named_modules()))
        self.bank.routers = RouterParts(self.base)
        self.ends = _end_ids(self.model, self.tokenizer)
        self.max_tokens = _context(self.model)
        self.decoder = Decoder(
            self.model,
            self.bank,
            pad=self.tokenizer.pad_token_id or 0,
            ends=self.ends,
            max_rows=max_rows,
            max_bytes=2 * self.bank.max_bytes,
        )

    @property
    def parameters(self) -> int:
        """Number of values in the base model."""
        return sum(p.numel() for p in self.model.parameters())

    def close(self) -> None:
        """Takes the hooks off and lets the memory of model and adapters go."""
        self.bank.close()
        del self.model, self.decoder, self.bank
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt: a user turn if the tokenizer has a chat template, else the raw
        text; never empty."""
        ids = self._encode(self._framed(prompt), special=not self.tokenizer.chat_template)
        if ids:
            return ids
        first = self.tokenizer.bos_token_id
        return [first if first is not None else next(iter(self.ends), 0)]

    def generate(
        self,
        rows: Sequence[Row],
        *,
        on_tokens: Callable[[list[RowUpdate]], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> GenerateResult:
        """Continues every row; a row's tokens are those it would get alone.

        Args:
            on_tokens: gets the whole text of changed rows, at most every 50 ms.
            check: called before each step; raising Cancelled stops all rows, which keep what
                they have and get stop "cancelled".

        Raises:
            InvalidRequest: a prompt that does not fit the model.
            NotFound: an adapter that is not in the bank.
        """
        slots = [self._slot(row) for row in rows]
        stream = TextStream(self.tokenizer, self.ends, on_tokens)
        start = time.perf_counter()
        try:
            with self._memory():
                self.decoder.run(slots, stream.changed, check or _never)
        except Cancelled:
            for slot in slots:
                slot.stop = slot.stop or "cancelled"
            log.info("generation of %d rows was cancelled", len(rows))
        stream.flush()
        seconds = max(time.perf_counter() - start, 1e-9)
        total = sum(len(slot.made) for slot in slots)
        outputs = [
            RowOutput(s.row.id, stream.text(s), len(s.made), s.stop or "length", tuple(s.made))
            for s in slots
        ]
        return GenerateResult(outputs, seconds, total, total / seconds)

    def score(
        self, rows: Sequence[ScoreRow], *, check: Callable[[], None] | None = None
    ) -> list[RowScore]:
        """How likely each target is after its prompt, by teacher forcing, the end token included.

        Raises:
            InvalidRequest: prompt and target do not fit the model.
        """
        pairs = [self._target(row) for row in rows]
        found: dict[int, RowScore] = {}
        for batch in self._score_batches(pairs):
            (check or _never)()
            factors = self.bank.gather([rows[i].plan for i in batch])
            longest = max(len(pairs[i][1]) for i in batch)
            with self._memory():
                # The last token predicts nothing that is asked for, so it stays out.
                ids = [(pairs[i][0] + pairs[i][1])[:-1] for i in batch]
                logits = self.decoder.scores(ids, factors, longest)  # (n, longest, vocab)
            for i, row_logits in zip(batch, logits, strict=True):
                found[i] = _row_score(rows[i].id, row_logits, pairs[i][1])
        return [found[i] for i in range(len(rows))]

    def _slot(self, row: Row) -> Slot:
        ids = self.prompt_ids(row.prompt)
        room = self.max_tokens - len(ids)
        if room < 1:
            raise InvalidRequest(
                f"A prompt has {len(ids)} tokens; this model reads at most {self.max_tokens}, "
                "answer included. Shorten it."
            )
        return Slot(row, ids, min(row.sampling.max_new_tokens, room))

    def _target(self, row: ScoreRow) -> tuple[list[int], list[int]]:
        """Token ids of the prompt and of what should follow it."""
        prompt = self.prompt_ids(row.prompt)
        if isinstance(row.target, tuple):
            target = list(row.target)
        else:
            end = self.tokenizer.eos_token_id
            target = self.answer_ids(row.prompt, row.target)
            target += [end] if end is not None else []
        if not target or len(prompt) + len(target) > self.max_tokens:
            raise InvalidRequest(
                f"Prompt and target of row '{row.id}' have {len(prompt) + len(target)} tokens; "
                f"they must have 1 to {self.max_tokens}, and the target must not be empty."
            )
        return prompt, target

    def answer_ids(self, prompt: str, answer: str) -> list[int]:
        """Token ids of an answer, as the chat template would write it after the prompt's."""
        ids = self.prompt_ids(prompt)
        framed = self._framed(prompt)
        if self.tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            whole = self.tokenizer.apply_chat_template(turns, tokenize=False)
            start = whole.rfind(answer)
            if whole.startswith(framed) and start >= len(framed):
                answer = whole[len(framed) : start + len(answer)]
        special = not self.tokenizer.chat_template
        joined = self._encode(framed + answer, special=special)
        if joined[: len(ids)] == ids:
            return joined[len(ids) :]
        return self._encode(answer, special=False)

    def _framed(self, prompt: str) -> str:
        if not self.tokenizer.chat_template:
            return prompt
        turns = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids without an end token that some tokenizers append."""
        ids = list(self.tokenizer(text, add_special_tokens=special)["input_ids"])
        bare = self.tokenizer.eos_token or "\0"
        if ids and ids[-1] == self.tokenizer.eos_token_id and not text.endswith(bare):
            ids.pop()
        return ids

    def _score_batches(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
        """Indices of rows of similar length; of equal length where padding is not allowed."""
        lengths = [len(prompt) + len(target) for prompt, target in pairs]
        batch: list[int] = []
        for i in sorted(range(len(pairs)), key=lambda i: (lengths[i], i)):
            apart = batch and not self.decoder.can_join and lengths[i] != lengths[batch[0]]
            if apart or len(batch) >= self.decoder.max_rows:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    @contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError) as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise LoraStudioError(
                f"The device ran out of memory with up to {self.decoder.max_rows} rows at once. "
                "Use fewer columns or prompts, shorter answers, or set LORA_STUDIO_MAX_ROWS lower."
            ) from error


def _never() -> None:
    return None


def _row_score(row_id: str, logits: Tensor, target: list[int]) -> RowScore:
    """Score of one row from its last logits (longest, vocab)."""
    logits = logits[-len(target) :].float()  # (tokens, vocab)
    wanted = torch.tensor(target, device=logits.device)
    gains = logits.log_softmax(dim=1).gather(1, wanted[:, None])  # (tokens, 1)
    mean = float(gains.mean())
    exact = bool((logits.argmax(dim=1) == wanted).all()) and math.isfinite(mean)
    return RowScore(row_id, exact, mean if math.isfinite(mean) else -1e9, len(target))


def _end_ids(model: PreTrainedModel, tokenizer: object) -> frozenset[int]:
    """Ids that end a row, from the model's generation settings and from the tokenizer."""
    settings = getattr(model, "generation_config", None)
    declared = getattr(settings, "eos_token_id", None)
    many = declared if isinstance(declared, list | tuple) else [declared]
    every = [*many, getattr(tokenizer, "eos_token_id", None)]
    return frozenset(int(token) for token in every if token is not None)


def _context(model: PreTrainedModel) -> int:
    """Most tokens the model was built for; very large if it does not say."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 1 << 20
