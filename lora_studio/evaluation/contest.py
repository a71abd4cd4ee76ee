"""Ways to answer the same prompts, side by side: figures with intervals, what each costs, and
whether it differs from a control."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.engines.rows import RowPlan
from lora_studio.evaluation.asking import Asker, Check, Question, Report
from lora_studio.evaluation.metrics import METRICS, Answer
from lora_studio.evaluation.plans import alone
from lora_studio.evaluation.statistics import Difference, Estimate, difference, estimate
from lora_studio.evaluation.task_file import TaskRow

Kind = Literal["control", "adapter", "merging", "routing"]
BASE, BEST, RANDOM, PERFECT = "base model", "best single", "random adapter", "perfect selection"
CONTROLS = (BASE, BEST, RANDOM, PERFECT)


@dataclass(frozen=True)
class Contender:
    """A way to answer.

    Args:
        label: unique among those that are compared.
        plans: one for each prompt.
        rank, size: of all adapters that have to be kept for it: sum of their ranks, and bytes of
            their factors in 16 bits.
        notes: what a person should know.
    """

    label: str
    kind: Kind
    plans: tuple[RowPlan, ...]
    rank: int = 0
    size: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a contender.

    Args:
        values: (n,) of the prompts under the metric of the table.
        tokens: (n,) by which some metrics count.
        seconds: mean of a prompt.
    """

    label: str
    kind: Kind
    metric: str
    values: tuple[float, ...]
    tokens: tuple[int, ...]
    seconds: float
    rank: int = 0
    size: int = 0
    notes: tuple[str, ...] = ()

    def estimate(self, places: Sequence[int] | None = None) -> Estimate:
        """The figure over all prompts, or over those at these places."""
        chosen = range(len(self.values)) if places is None else places
        values, tokens = [self.values[i] for i in chosen], [self.tokens[i] for i in chosen]
        return estimate(METRICS.get(self.metric), values, tokens)

    def against(self, other: Outcome) -> Difference:
        """How far it is ahead of another on the same prompts, in the metric's own values: of
        perplexity that is the loss in nats a token."""
        weights = np.asarray(self.tokens) if METRICS.get(self.metric).by_token else None
        return difference(self.values, other.values, weights=weights)


def kept(adapters: Sequence[Adapter]) -> tuple[int, int]:
    """(rank, bytes) of adapters that are kept side by side, in 16-bit factors."""
    return sum(a.max_rank for a in adapters), 2 * sum(a.parameters for a in adapters)


@dataclass
class Contest:
    """Contenders on the rows of one metric.

    Args:
        asker: who is asked.
        rows: all of one metric.
        adapters: the pool: name in the bank -> adapter.
        stranger: name of a random adapter in the bank, for a pool of one.
        ready: makes the adapters of these names resident, before they are asked.
        report: for a label, who is told how far its answers are.
    """

    asker: Asker
    rows: Sequence[TaskRow]
    adapters: Mapping[str, Adapter]
    stranger: str = ""
    ready: Callable[[Collection[str]], None] = field(default=lambda names: None)
    report: Callable[[str], Report] = field(default=lambda label: lambda done, of: None)
    check: Check | None = None

    @property
    def metric(self) -> str:
        return self.rows[0].metric

    def outcome(self, contender: Contender) -> Outcome:
        """Asks what is not known yet."""
        self.ready({name for plan in contender.plans for name in plan.ids})
        how = METRICS.get(self.metric).needs
        questions = [
            Question(row.prompt, row.reference, plan, how)
            for row, plan in zip(self.rows, contender.plans, strict=True)
        ]
        answers = self.asker.answers(questions, self.report(contender.label), self.check)
        return self._judged(contender, answers)

    def controls(self, own: Sequence[str] | None = None) -> list[Outcome]:
        """Base, best single, random adapter, perfect selection; then every adapter alone.

        The best single adapter is the best on these very prompts, which favours it. Perfect
        selection is the adapter that a prompt belongs to, or else the one that answers it best.

        Args:
            own: name of the adapter that each prompt belongs to.
        """
        base = self.outcome(Contender(BASE, "control", (RowPlan(),) * len(self.rows)))
        singles = [self._single(name) for name in self.adapters]
        if not singles:
            return [base]
        size = kept(list(self.adapters.values()))
        perfect = self._perfect(singles, own, size)
        return [base, self._best(singles), self._random(size), perfect, *singles]

    def _random(self, size: tuple[int, int]) -> Outcome:
        rng = random.Random(0)
        few = len(self.adapters) == 1 and self.stranger
        names = [self.stranger] if few else list(self.adapters)
        note = "random numbers of its shape and norm" if few else "another one for each prompt"
        drawn = tuple(alone(rng.choice(names)) for _ in self.rows)
        return self.outcome(Contender(RANDOM, "control", drawn, *size, (note,)))

    def _single(self, name: str) -> Outcome:
        adapter = self.adapters[name]
        title = adapter.card.title or name[:12]
        taken = [n for n, a in self.adapters.items() if (a.card.title or n[:12]) == title]
        label = title if len(taken) == 1 else f"{title} ({name[:8]})"
        plans = (alone(name),) * len(self.rows)
        return self.outcome(Contender(label, "adapter", plans, *kept([adapter])))

    def _best(self, singles: Sequence[Outcome]) -> Outcome:
        found = max(singles, key=lambda one: self._sign() * one.estimate().value)
        told = (f"{found.label}, chosen on these prompts",)
        return _renamed(found, BEST, told)

    def _perfect(
        self, singles: Sequence[Outcome], own: Sequence[str] | None, size: tuple[int, int]
    ) -> Outcome:
        if own is not None:
            plans = tuple(alone(name) for name in own)
            return self.outcome(Contender(PERFECT, "control", plans, *size))
        at = [
            max(singles, key=lambda one, i=i: self._sign() * one.values[i])
            for i in range(len(self.rows))
        ]
        values = tuple(one.values[i] for i, one in enumerate(at))
        tokens = tuple(one.tokens[i] for i, one in enumerate(at))
        seconds = sum(one.seconds for one in at) / len(at)
        told = ("the best answer of any single adapter, prompt by prompt",)
        return Outcome(PERFECT, "control", self.metric, values, tokens, seconds, *size, told)

    def _sign(self) -> int:
        return 1 if METRICS.get(self.metric).best == "larger" else -1

    def _judged(self, contender: Contender, answers: Sequence[Answer]) -> Outcome:
        judge = METRICS.get(self.metric).judge
        values = tuple(judge(a, row.reference) for a, row in zip(answers, self.rows, strict=True))
        return Outcome(
            contender.label,
            contender.kind,
            self.metric,
            values,
            tuple(answer.tokens for answer in answers),
            sum(answer.seconds for answer in answers) / len(answers),
            contender.rank,
            contender.size,
            contender.notes,
        )


def told(outcome: Outcome, against: Sequence[Outcome] = ()) -> dict[str, Any]:
    """Plain JSON form of an outcome, with its differences from others."""
    found = {
        "label": outcome.label,
        "kind": outcome.kind,
        **outcome.estimate().to_dict(),
        "seconds": outcome.seconds,
        "rank": outcome.rank,
        "bytes": outcome.size,
        "notes": list(outcome.notes),
    }
    others = [other for other in against if other.label != outcome.label]
    return {**found, "against": {o.label: outcome.against(o).to_dict() for o in others}}


def _renamed(outcome: Outcome, label: str, notes: tuple[str, ...]) -> Outcome:
    return Outcome(**{**vars(outcome), "label": label, "kind": "control", "notes": notes})
