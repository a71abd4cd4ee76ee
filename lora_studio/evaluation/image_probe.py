"""A ModelProbe on a running image engine: merges are judged by how far they change the denoiser's
predictions as each source alone does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from lora_studio.adapter import Adapter
from lora_studio.composition.method import Progress, no_progress
from lora_studio.composition.probe import Agreement
from lora_studio.engines.image import Call, Denoising, ImageEngine, ImageRow, plain

PROMPTS_PER_SOURCE = 6
STEPS = 10
KEPT = (1, 3, 5, 8)
"""Steps of the short runs at which predictions are compared: mostly noise to mostly picture."""
REPRODUCED = "of what each source changes in the model's predictions is reproduced"


class ImageProbe:
    """Implements `lora_studio.composition.ModelProbe`.

    Each source alone makes a few pictures of its sample prompts, and what the denoiser saw and
    predicted on the way is kept. A candidate is judged by the share of each source's change that it
    explains on the very same inputs, 1 - |eps_candidate - eps_source|^2 / |eps_base -
    eps_source|^2, averaged over the sources so that a loud style does not outvote a quiet object.
    No reference pictures and no judge take part.

    Args:
        engine: the running base model; what the probe adds to its bank it takes out again.
        sources: id -> adapter.
        samples: id -> sample prompts; at most 6 of each are used.
        progress: called with (fraction, message) before each candidate; may raise to cancel.
        check: called between evaluations; may raise to cancel.
    """

    def __init__(
        self,
        engine: ImageEngine,
        sources: Mapping[str, Adapter],
        samples: Mapping[str, Sequence[str]],
        progress: Progress = no_progress,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._engine, self._progress = engine, progress
        self._check = check or (lambda: None)
        self._wish = Denoising(steps=STEPS)
        self._recorded: list[tuple[list[ImageRow], list[Call], list[float]]] = []
        with self._engine.bank.guests(sources) as guests:
            for name in sources:
                prompts = list(samples.get(name, ()))[:PROMPTS_PER_SOURCE]
                if prompts:
                    self._record(guests[name], prompts)

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale)."""
        found: list[Agreement] = []
        for done, (adapter, scale) in enumerate(candidates):
            self._check()
            self._progress(done / len(candidates), f"trying strength {scale:g} on sample prompts")
            with self._engine.bank.guests({"candidate": adapter}) as guests:
                shares = [self._explained(guests["candidate"], scale, *r) for r in self._recorded]
            mean = sum(shares) / max(len(shares), 1)
            prompts = sum(len(rows) for rows, _, _ in self._recorded)
            found.append(Agreement(max(0.0, mean), mean, prompts, REPRODUCED))
        return found

    def _record(self, name: str, prompts: Sequence[str]) -> None:
        rows = [
            ImageRow(str(i), prompt, plain({name: 1.0}), seed=i) for i, prompt in enumerate(prompts)
        ]
        calls = self._engine.record(rows, self._wish, KEPT, self._check)
        bare = [replace(row, plan=plain({})) for row in rows]
        base = self._engine.replay(calls, bare, self._wish)
        gaps = [_squared(b, call.prediction) for b, call in zip(base, calls, strict=True)]
        self._recorded.append((rows, calls, gaps))

    def _explained(
        self,
        name: str,
        scale: float,
        rows: Sequence[ImageRow],
        calls: Sequence[Call],
        gaps: Sequence[float],
    ) -> float:
        mine = [replace(row, plan=plain({name: scale})) for row in rows]
        answers = self._engine.replay(calls, mine, self._wish)
        off = sum(_squared(a, call.prediction) for a, call in zip(answers, calls, strict=True))
        return 1.0 - off / max(sum(gaps), 1e-12)


def _squared(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left.float() - right.float()).square().sum())
