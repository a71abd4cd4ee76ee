"""A ModelProbe on a running text engine: merges are judged by the sources' own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lora_studio.adapter import Adapter
from lora_studio.composition.probe import Agreement
from lora_studio.engines.text import Row, RowPlan, Sampling, ScoreRow, TextEngine

PROMPTS_PER_SOURCE = 20
MAX_ANSWER = 64


class EngineProbe:
    """Implements `lora_studio.composition.ModelProbe`.

    For each source adapter alone, greedy answers to its sample inputs are recorded once; a
    candidate is judged by how likely it makes these answers. No labels and no test prompts.

    Args:
        engine: the running base model.
        sources: id -> adapter; they are added to the engine's bank.
        samples: id -> sample inputs; at most 20 of each are used.
        check: called between batches; may raise to cancel.
    """

    def __init__(
        self,
        engine: TextEngine,
        sources: Mapping[str, Adapter],
        samples: Mapping[str, Sequence[str]],
        check: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._check = check
        for name, adapter in sources.items():
            engine.bank.add(name, adapter)
        asked = [
            (name, prompt)
            for name in sources
            for prompt in samples.get(name, ())[:PROMPTS_PER_SOURCE]
        ]
        self._pairs = self._answers(asked)

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale); scales of one adapter share its factors."""
        found: list[Agreement] = []
        for adapter, scale in candidates:
            name = f"probe-{adapter.id}"
            self._engine.bank.add(name, adapter)
            rows = [
                ScoreRow(str(i), prompt, answer, RowPlan(((name, scale),)))
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

    def _answers(self, asked: Sequence[tuple[str, str]]) -> list[tuple[str, tuple[int, ...]]]:
        greedy = Sampling(max_new_tokens=MAX_ANSWER)
        rows = [
            Row(str(i), prompt, RowPlan(((name, 1.0),)), greedy, 0)
            for i, (name, prompt) in enumerate(asked)
        ]
        result = self._engine.generate(rows, check=self._check)
        self._check()
        return [
            (prompt, row.token_ids)
            for (_, prompt), row in zip(asked, result.rows, strict=True)
            if row.token_ids and row.stop != "invalid"
        ]
