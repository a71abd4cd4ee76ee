"""Going through a language model layer by layer, so that a merge can be fitted to what each source
does on its own samples with what was fitted before already in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.method import Progress
from lora_studio.composition.probe import Fit, Part, Site
from lora_studio.engines.layers import Layers, Watched
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine

ANSWER = 3.0
"""Weight of the positions that predict the answer; those of the prompt count 1."""


@dataclass(frozen=True)
class Text:
    """One text: whose it is (None: nobody's), the plan under which it was written, its token ids,
    and how many of them nobody's answer depends on."""

    source: int | None
    plan: RowPlan
    ids: tuple[int, ...]
    prompt: int

    def weights(self) -> list[float]:
        asked = max(self.prompt - 1, 0) if self.source is not None else len(self.ids)
        return [1.0] * asked + [ANSWER] * (len(self.ids) - asked)


class TextWalk:
    """One walk over the layers of a model.

    Args:
        engine: the adapters named in the texts' plans are in its bank.
        texts: at least one.
        start: modules to fit, and what acts in them until then.
        sequential: as in `ModelProbe.walk`.
    """

    def __init__(
        self, engine: TextEngine, texts: Sequence[Text], start: Adapter, sequential: bool
    ) -> None:
        self._layers = Layers(engine, [text.ids for text in texts])
        self._sequential = sequential
        self._device = engine.device
        self._dtype = next(engine.model.parameters()).dtype
        self._factors = self._layers.gather([text.plan for text in texts])
        self._wanted = set(start.factors)
        self._merged = self._pairs(start.factors)
        self._parts = self._share_out([texts[i] for i in self._layers.order])

    def run(self, fit: Fit, progress: Progress, check: Callable[[], None] | None) -> None:
        """Has every module of `start` fitted that the layers hold."""
        alone = merged = self._layers.start()
        for index in range(len(self._layers)):
            if check:
                check()
            progress(index / len(self._layers), f"fitting layer {index + 1} of {len(self._layers)}")
            mine = self._wanted & self._layers.modules(index).keys()
            after, own = self._layers.run(index, alone, self._factors, mine)
            for group in own.groups:
                seen = own
                if self._sequential:
                    seen = self._layers.run(index, merged, self._without(group), group)[1]
                sites = [Site(name, self._site(name, own, seen)) for name in group]
                self._merged |= self._pairs(fit(sites))
            if self._sequential:
                merged, _ = self._layers.run(index, merged, self._without(()))
            alone = after

    def _without(self, names: Sequence[str]) -> list:
        return self._layers.alike({n: p for n, p in self._merged.items() if n not in names})

    def _site(self, name: str, own: Watched, seen: Watched) -> list[Part]:
        wanted = own.after[name].float() - seen.before[name].float()  # (tokens, d_out)
        place = own.writers.get(name)
        if self._sequential and place is not None:
            wanted += own.streams[place].float() - seen.streams[place].float()
        inputs = seen.inputs[name].float()
        return [Part(s, inputs[rows], wanted[rows], w) for s, rows, w in self._parts]

    def _share_out(self, texts: Sequence[Text]) -> list[tuple[int | None, Tensor, Tensor]]:
        """(source, its tokens, their weights) of every source that has texts."""
        owner: list[int | None] = [t.source for t in texts for _ in t.ids]
        weights = torch.tensor([w for t in texts for w in t.weights()], device=self._device)
        found = []
        for source in dict.fromkeys(owner):
            places = [i for i, one in enumerate(owner) if one == source]
            rows = torch.tensor(places, device=self._device)
            found.append((source, rows, weights[rows] / weights[rows].sum()))
        return found

    def _pairs(self, factors: Mapping[str, LoraFactors]) -> dict[str, tuple[Tensor, Tensor]]:
        def move(array: object) -> Tensor:
            return torch.as_tensor(array).to(device=self._device, dtype=self._dtype)

        folded = {name: module.folded() for name, module in factors.items()}
        return {name: (move(module.A), move(module.B)) for name, module in folded.items()}
