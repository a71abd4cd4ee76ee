"""How an answer is judged: exact match, ROUGE-L, BLEU, loss and perplexity; and the share of
right answers with its interval."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any, Literal

from lora_studio.errors import InvalidRequest
from lora_studio.registry import Registry

Z95 = 1.959963984540054
EXTRA = "evaluate"
"""Name of the extra that brings the libraries of ROUGE and BLEU."""
WORST_LOGPROB = 1e4
"""Nats a token at most, so that one broken answer leaves a mean that can be read."""


def exact_match(answer: str, target: str) -> bool:
    """Whether two texts are the same but for surrounding and repeated white space."""
    return " ".join(answer.split()) == " ".join(target.split())


@dataclass(frozen=True)
class Answer:
    """What a model made of one prompt.

    Args:
        exact: whether greedy decoding writes the reference and ends; None if that was not asked.
        logprob: mean natural log probability of the reference's tokens, its end included.
        tokens: how many those are; of a written answer, how many were written.
        text: the written answer; None if nothing was written.
        seconds: of the batch it was part of, shared out evenly.
    """

    exact: bool | None = None
    logprob: float | None = None
    tokens: int = 0
    text: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Metric:
    """A way to judge.

    Args:
        needs: "score": the likelihood of the reference suffices; "text": an answer is written.
        best: whether larger or smaller is better.
        by_token: whether the mean over rows counts each row by its tokens.
        binary: whether a row's value is 0 or 1.
        judge: (answer, reference) -> value of a row: ROUGE and BLEU in [0, 1], loss in nats.
        shown: from a mean to the figure that is told: exp for perplexity.
    """

    name: str
    title: str
    needs: Literal["score", "text"]
    judge: Callable[[Answer, str], float]
    best: Literal["larger", "smaller"] = "larger"
    by_token: bool = False
    binary: bool = False
    shown: Callable[[float], float] = float


def library(name: str, package: str) -> Any:
    """An optional library.

    Raises:
        InvalidRequest: it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidRequest(
            f"This metric needs {package}, which is not installed. "
            f'Run: pip install "lora-studio[{EXTRA}]", or pip install {package}.'
        ) from error


class _Words:
    """Lower-case words of any script. rouge-score's own splitter drops letters that are not ASCII;
    on ASCII text the two agree but for the underscore, which is part of a word here."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


@lru_cache(1)
def _rouge() -> Any:
    return library("rouge_score.rouge_scorer", "rouge-score").RougeScorer(
        ["rougeL"], tokenizer=_Words()
    )


def _rouge_l(answer: Answer, reference: str) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004), by rouge-score."""
    return float(_rouge().score(reference, answer.text or "")["rougeL"].fmeasure)


def _bleu(answer: Answer, reference: str) -> float:
    """BLEU of one sentence (exponential smoothing, effective order), by sacrebleu; 0 to 1."""
    sacrebleu = library("sacrebleu", "sacrebleu")
    return float(sacrebleu.sentence_bleu(answer.text or "", [reference]).score) / 100


def _exact(answer: Answer, reference: str) -> float:
    if answer.exact is not None:
        return float(answer.exact)
    return float(exact_match(answer.text or "", reference))


def _loss(answer: Answer, reference: str) -> float:
    return min(-(answer.logprob or 0.0), WORST_LOGPROB)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))


METRICS: Registry[Metric] = Registry("metric")
for _metric in (
    Metric("exact_match", "Exact match", "score", _exact, binary=True),
    Metric("rouge_l", "ROUGE-L", "text", _rouge_l),
    Metric("bleu", "BLEU", "text", _bleu),
    Metric("loss", "Loss (nats a token)", "score", _loss, "smaller", by_token=True),
    Metric("perplexity", "Perplexity", "score", _loss, "smaller", True, shown=_perplexity),
):
    METRICS.register(_metric.name, _metric)


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % Wilson interval.

    Wilson, E. B. (1927). Never leaves [0, 1], and is honest at 0 and 1, where the normal
    approximation has no width.
    """

    correct: int
    n: int

    @property
    def rate(self) -> float:
        return self.correct / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high), both in [0, 1]; (0, 1) when nothing was measured."""
        if not self.n:
            return 0.0, 1.0
        p, n, z2 = self.rate, self.n, Z95**2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.correct + other.correct, self.n + other.n)

    def to_dict(self) -> dict[str, float | int]:
        low, high = self.interval
        return {
            "n": self.n,
            "correct": self.correct,
            "rate": self.rate,
            "low": low,
            "high": high,
        }
