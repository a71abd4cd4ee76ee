"""Puts questions to a running language model, in batches, and remembers the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lora_studio.engines.rows import (
    GenerateResult,
    Row,
    RowPlan,
    RowScore,
    Sampling,
    ScoreRow,
)
from lora_studio.evaluation.ledger import Ledger, key_of
from lora_studio.evaluation.metrics import Answer, Rate

PART = 50
"""Questions between two reports and two writes to the ledger."""
TOKENS = 64
"""Most tokens of a written answer."""

BASE = RowPlan()

How = Literal["score", "text"]
Report = Callable[[int, int], None]
Check = Callable[[], None]


class Model(Protocol):
    """What is asked: `engines.text.TextEngine` is one."""

    base: str

    def score(self, rows: Sequence[ScoreRow], *, check: Check | None = None) -> list[RowScore]: ...

    def generate(self, rows: Sequence[Row], *, check: Check | None = None) -> GenerateResult: ...


@dataclass(frozen=True)
class Question:
    """A prompt, the answer that is wanted, and who answers."""

    prompt: str
    reference: str
    plan: RowPlan = BASE
    how: How = "score"


def _silent(done: int, of: int) -> None:
    """Tells nobody."""


class Asker:
    """Answers questions, each once.

    A scored answer is right when every token of the reference, and its end, is the likeliest:
    greedy decoding would write just that, at the price of one forward pass. Where words are to be
    compared the answer is written, greedily.

    Args:
        model: the engine; the adapters that plans name are in its bank.
        contents: name in a plan -> id of the adapter's contents; a name that is missing is an id.
        ledger: where answers are kept.
    """

    def __init__(
        self,
        model: Model,
        contents: Mapping[str, str] | None = None,
        ledger: Ledger | None = None,
        tokens: int = TOKENS,
    ) -> None:
        self._model = model
        self.contents = dict(contents or {})
        self.ledger = ledger if ledger is not None else Ledger()
        self._tokens = tokens

    def answers(
        self,
        questions: Sequence[Question],
        report: Report = _silent,
        check: Check | None = None,
    ) -> list[Answer]:
        """One for each question; `report` is told (answered, of) before each batch and at the end,
        `check` may raise to stop, and what was answered is kept."""
        keys = [self.key(question) for question in questions]
        open_ = {
            key: question
            for key, question in zip(keys, questions, strict=True)
            if self.ledger.get(key) is None
        }
        total, done = len(open_), 0
        hows: tuple[How, ...] = ("score", "text")
        for how in hows:
            waiting = sorted((one for one in open_.items() if one[1].how == how), key=_length)
            for start in range(0, len(waiting), PART):
                report(done, total)
                part = waiting[start : start + PART]
                made = self._asked(how, [question for _, question in part], check)
                self.ledger.add([(key, one) for (key, _), one in zip(part, made, strict=True)])
                done += len(part)
        report(total, total)
        return [self._known(key) for key in keys]

    def open(self, questions: Sequence[Question]) -> int:
        """How many of them are not answered yet."""
        keys = {self.key(question) for question in questions}
        return sum(self.ledger.get(key) is None for key in keys)

    def key(self, question: Question) -> str:
        """Under which its answer is kept."""
        names = question.plan.ids
        how = question.how if question.how == "score" else f"text {self._tokens}"
        contents = [self.contents.get(name, name) for name in names]
        reference = question.reference if question.how == "score" else ""
        plan = _unnamed(question.plan)
        return key_of(self._model.base, how, question.prompt, reference, plan, contents)

    def _known(self, key: str) -> Answer:
        answer = self.ledger.get(key)
        assert answer is not None
        return answer

    def _asked(self, how: How, part: Sequence[Question], check: Check | None) -> list[Answer]:
        start = time.perf_counter()
        if how == "score":
            rows = [ScoreRow(str(i), q.prompt, q.reference, q.plan) for i, q in enumerate(part)]
            scores = self._model.score(rows, check=check)
            share = round((time.perf_counter() - start) / len(part), 6)
            return [Answer(s.exact, s.logprob, s.tokens, None, share) for s in scores]
        greedy = Sampling(max_new_tokens=self._tokens)
        asked = [Row(str(i), q.prompt, q.plan, greedy) for i, q in enumerate(part)]
        written = self._model.generate(asked, check=check).rows
        if check:
            check()
        share = round((time.perf_counter() - start) / len(part), 6)
        return [Answer(None, None, w.tokens, w.text.strip(), share) for w in written]


def exact_rate(
    model: Model,
    tests: Sequence[Mapping[str, str]],
    plans: Sequence[RowPlan],
    report: Report = _silent,
    check: Check | None = None,
) -> Rate:
    """Exact match of test i {prompt, target} under plan i; nothing is kept."""
    questions = [
        Question(test["prompt"], test["target"], plan)
        for test, plan in zip(tests, plans, strict=True)
    ]
    answers = Asker(model).answers(questions, report, check)
    return Rate(sum(bool(answer.exact) for answer in answers), len(answers))


def _length(one: tuple[str, Question]) -> int:
    """Rows of like length lie in one batch, where little is padded."""
    return len(one[1].prompt) + len(one[1].reference)


def _unnamed(plan: RowPlan) -> dict[str, object]:
    """The plan without names, which are those of a bank; their contents are hashed in order."""
    told = {name: value for name, value in vars(plan).items() if name != "terms"}
    return {**told, "weights": [weight for _, weight in plan.terms]}
