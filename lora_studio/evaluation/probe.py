"""A ModelProbe on a running text engine: merges are judged by the sources' own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lora_studio.adapter import Adapter
from lora_studio.composition.method import Progress, no_progress
from lora_studio.composition.probe import Agreement
from lora_studio.engines.text import Row, RowPlan, Sampling, ScoreRow, TextEngine

PROMPTS_PER_SOURCE = 20
MAX_ANSWER = 64


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
        asked = [
            (name, prompt)
            for name in sources
            for prompt in samples.get(name, ())[:PROMPTS_PER_SOURCE]
        ]
        with self._guests(sources) as guests:
            self._pairs = self._answers([(guests[name], prompt) for name, prompt in asked])

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale)."""
        found: list[Agreement] = []
        for done, (adapter, scale) in enumerate(candidates):
            self._progress(done / len(candidates), f"trying strength {scale:g} on sample prompts")
            with self._guests({"candidate": adapter}) as guests:
                plan = RowPlan(((guests["candidate"], scale),))
                rows = [
                    ScoreRow(str(i), prompt, answer, plan)
                    for i, (prompt, answer) in enumerate(self._pairs)
                ]
                scores = self._engine.score(rows, check=self._check) if rows else []
            count = max(len(scores), 1)
            found.append(
                Agreement(
                    exact=sum(s.exact for s in scores) / count,
                    logprob=sum(s.logprob for s in scores) / count,
                    prompts=len(scores),
                )
            )
        return found

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

    def _answers(self, asked: Sequence[tuple[str, str]]) -> list[tuple[str, tuple[int, ...]]]:
        greedy = Sampling(max_new_tokens=MAX_ANSWER)
        rows = [
            Row(str(i), prompt, RowPlan(((name, 1.0),)), greedy, 0)
            for i, (name, prompt) in enumerate(asked)
        ]
        result = self._engine.generate(rows, check=self._check)
        if self._check:
            self._check()
        return [
            (prompt, row.token_ids)
            for (_, prompt), row in zip(asked, result.rows, strict=True)
            if row.token_ids and row.stop != "invalid"
        ]
