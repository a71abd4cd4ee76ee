"""A ModelProbe on a running text engine: merges are judged by, and fitted to, the sources' own
answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

from lora_studio.adapter import Adapter
from lora_studio.composition.method import Progress, no_progress
from lora_studio.composition.probe import Agreement, Fit, Walked
from lora_studio.engines.own_answers import own_answers
from lora_studio.engines.own_words import own_words
from lora_studio.engines.rows import RowScore
from lora_studio.engines.text import RowPlan, ScoreRow, TextEngine
from lora_studio.evaluation.text_walk import Text, TextWalk

PROMPTS_PER_SOURCE = 20
MAX_ANSWER = 64
HELD_OUT = 4
"""`split` keeps every fourth sample of a source for judging, of two or three the last."""


@dataclass(frozen=True)
class Sample:
    """A sample input and what its adapter, by the id of its content, answers to it alone."""

    adapter: str
    prompt: str
    answer: tuple[int, ...]


def _mean(scores: Sequence[RowScore]) -> tuple[float, float]:
    """Share of exact answers and mean log-probability."""
    count = max(len(scores), 1)
    return sum(s.exact for s in scores) / count, sum(s.logprob for s in scores) / count


class EngineProbe:
    """Implements `lora_studio.composition.ModelProbe`.

    For each source adapter alone, greedy answers to its sample inputs are recorded once; a
    candidate is judged by how likely it makes these answers. No labels and no test prompts.

    Args:
        engine: the running base model; what the probe adds to its bank it takes out again.
        sources: id -> adapter.
        samples: id -> sample inputs; at most 20 of each are used.
        progress: called with (fraction, message) before each candidate; may raise to cancel.
        check: called between batches; may raise to cancel.
    """

    def __init__(
        self,
        engine: TextEngine,
        sources: Mapping[str, Adapter],
        samples: Mapping[str, Sequence[str]],
        progress: Progress = no_progress,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._progress = progress
        self._check = check
        self._words: dict[int, list[list[int]]] = {}
        asked = [
            (sources[name].id, prompt)
            for name in sources
            for prompt in samples.get(name, ())[:PROMPTS_PER_SOURCE]
        ]
        with self._guests({source.id: source for source in sources.values()}) as guests:
            self._samples = self._answers(asked, guests)

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale)."""
        found: list[Agreement] = []
        for done, (adapter, scale) in enumerate(candidates):
            self._progress(done / len(candidates), f"trying strength {scale:g} on sample prompts")
            with self._guests({"candidate": adapter}) as guests:
                plan = RowPlan(((guests["candidate"], scale),))
                rows = [
                    ScoreRow(str(i), sample.prompt, sample.answer, plan)
                    for i, sample in enumerate(self._samples)
                ]
                scores = self._engine.score(rows, check=self._check) if rows else []
            exact, logprob = _mean(scores)
            apart = {
                name: _mean(
                    [s for s, of in zip(scores, self._samples, strict=True) if of.adapter == name]
                )
                for name in self._adapters()
            }
            found.append(Agreement(exact, logprob, len(scores), of_source=apart))
        return found

    def walk(
        self,
        sources: Sequence[tuple[Adapter, float]],
        start: Adapter,
        fit: Fit,
        *,
        sequential: bool = True,
        guard: int = 0,
        together: float = 2.0,
    ) -> Walked:
        """As `WalkingProbe.walk`."""
        with self._guests({adapter.id: adapter for adapter, _ in sources}) as guests:
            present = [s for s in self._samples if s.adapter in guests]
            if not present:
                return Walked(0)
            everyone = RowPlan(tuple((guests[a.id], strength) for a, strength in sources))
            agreed = self._agreed(present, everyone) if together <= 1 else None
            share = len(agreed) / len(present) if agreed is not None else None
            all_at_once = share is not None and share >= together
            texts = self._texts(
                sources, guests, everyone, (agreed or set()) if all_at_once else set()
            )
            walk = TextWalk(self._engine, [*texts, *self._guarded(guard)], start, sequential)
            walk.run(fit, self._progress, self._check)
        return Walked(len(present), share, all_at_once)

    def split(self) -> tuple[EngineProbe, EngineProbe]:
        """As `WalkingProbe.split`; nothing is asked again."""
        fitted, judged = copy(self), copy(self)
        own = [[s for s in self._samples if s.adapter == a] for a in self._adapters()]
        held = (mine[HELD_OUT - 1 :: HELD_OUT] or mine[1:][-1:] for mine in own)
        judged._samples = [s for mine in held for s in mine]
        kept = {id(s) for s in judged._samples}
        fitted._samples = [s for s in self._samples if id(s) not in kept]
        return fitted, judged

    def _adapters(self) -> list[str]:
        return list(dict.fromkeys(sample.adapter for sample in self._samples))

    @contextmanager
    def _guests(self, adapters: Mapping[str, Adapter]) -> Iterator[dict[str, str]]:
        """Within, the adapters are in the bank under names of their own, so that a source cut to
        some units is never taken for the whole adapter; yields key -> name in the bank."""
        names = {key: f"probe-{key}" for key in adapters}
        bank = self._engine.bank
        try:
            for key, adapter in adapters.items():
                bank.add(names[key], adapter, keep=names.values())
            yield names
        finally:
            for name in names.values():
                bank.remove(name)

    def _answers(self, asked: Sequence[tuple[str, str]], guests: Mapping[str, str]) -> list[Sample]:
        questions = [(guests[name], prompt) for name, prompt in asked]
        answers = own_answers(self._engine, questions, MAX_ANSWER, self._check)
        return [
            Sample(name, prompt, answer)
            for (name, prompt), answer in zip(asked, answers, strict=True)
            if answer
        ]

    def _texts(
        self,
        sources: Sequence[tuple[Adapter, float]],
        guests: Mapping[str, str],
        everyone: RowPlan,
        agreed: set[Sample],
    ) -> list[Text]:
        """The samples of these sources, each under its source alone or, if agreed, under all."""
        found: list[Text] = []
        for place, (adapter, strength) in enumerate(sources):
            alone = RowPlan(((guests[adapter.id], strength),))
            for sample in self._samples:
                if sample.adapter == adapter.id:
                    ids = self._engine.prompt_ids(sample.prompt)
                    # The last token predicts nothing that is asked for, so it stays out.
                    text = (*ids, *sample.answer[:-1])
                    found.append(
                        Text(place, everyone if sample in agreed else alone, text, len(ids))
                    )
        return found

    def _guarded(self, count: int) -> list[Text]:
        """What the base model writes itself; written once."""
        if count not in self._words:
            self._words[count] = own_words(self._engine, count, 0, self._check) if count else []
        return [Text(None, RowPlan(), tuple(ids), len(ids)) for ids in self._words[count]]

    def _agreed(self, samples: Sequence[Sample], plan: RowPlan) -> set[Sample]:
        """Samples whose answer comes out under this plan too."""
        rows = [ScoreRow("", s.prompt, s.answer, plan) for s in samples]
        scores = self._engine.score(rows, check=self._check)
        return {s for s, score in zip(samples, scores, strict=True) if score.exact}
