"""Reads one prompt and its answer again under a plan and notes who spoke at each token."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
from torch import Tensor

from lora_studio.composition.decision import Decision, LoudUnit
from lora_studio.composition.token_router import Seen, router
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.errors import InvalidRequest

UNITS = 4
"""Loudest units kept for each token and layer."""
LAYER = re.compile(r"\.(\d+)\.")


def trace(engine: TextEngine, prompt: str, answer: str, plan: RowPlan) -> Decision:
    """Who spoke while `answer` was read after `prompt`, by teacher forcing in one pass.

    Raises:
        InvalidRequest: a plan without adapters or with averaged factors, or texts that do not fit.
    """
    if not plan.terms or plan.fuse:
        raise InvalidRequest("This column has no adapters whose parts could be told apart.")
    first = engine.prompt_ids(prompt)
    ids = [*first, *engine.answer_ids(prompt, answer)]
    if len(ids) > engine.max_tokens:
        raise InvalidRequest(f"The answer is too long to be read again ({len(ids)} tokens).")
    even = plan if plan.router else replace(plan, router=router("even"))
    notes = _Notes(len(ids), len(plan.terms))
    factors = replace(engine.bank.gather([even]), watch=notes.take)
    engine.decoder.scores([ids], factors, 1)
    layers = sorted(notes.wrote)
    empty = np.zeros((0, len(ids), len(plan.terms)))
    return Decision(
        tuple(engine.tokenizer.decode([token]) for token in ids),
        len(first),
        tuple(layers),
        plan.ids,
        np.stack([np.sqrt(notes.wrote[i]) for i in layers]) if layers else empty,
        np.stack([notes.passed[i] / notes.modules[i] for i in layers]) if layers else empty,
        {(place, t): loud for place, i in enumerate(layers) for t, loud in notes.loudest(i)},
    )


def layer_of(module: str) -> int:
    """Number of the decoder layer in a module's name, 0 if it has none."""
    found = LAYER.search(f".{module}.")
    return int(found[1]) if found else 0


class _Notes:
    """What was heard, by layer number."""

    def __init__(self, tokens: int, adapters: int) -> None:
        self.shape = (tokens, adapters)
        self.wrote: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(self.shape))
        self.passed: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(self.shape))
        self.modules: dict[int, int] = defaultdict(int)
        self._units: dict[int, list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]] = defaultdict(
            list
        )

    def take(self, module: str, seen: Seen, weights: Tensor) -> None:
        """One module's part; called in the order in which they run."""
        layer = layer_of(module)
        z = seen.z * weights  # (1, T, R)
        self.wrote[layer] += seen.wrote(z)[0].double().cpu().numpy()
        self.passed[layer] += seen.passed(weights)[0].double().cpu().numpy()
        self.modules[layer] += 1
        loud = z[0].abs() * seen.B[0].norm(dim=0)  # (T, R)
        best = loud.topk(min(UNITS, loud.shape[1]), dim=1)
        member = seen.member[0]  # (R, E)
        owner = member.argmax(1)  # (R,)
        number = member.cumsum(0).long().gather(1, owner[:, None])[:, 0] - 1  # in its adapter
        self._units[layer].append(
            (
                module,
                best.values.cpu().numpy(),
                owner[best.indices].cpu().numpy(),
                number[best.indices].cpu().numpy(),
            )
        )

    def loudest(self, layer: int) -> list[tuple[int, list[LoudUnit]]]:
        """(token, its loudest units over all modules of a layer)."""
        found = []
        for token in range(self.shape[0]):
            units = [
                LoudUnit(module, int(a), int(u), float(w))
                for module, wrote, adapters, numbers in self._units[layer]
                for w, a, u in zip(wrote[token], adapters[token], numbers[token], strict=True)
                if w > 0
            ]
            found.append((token, sorted(units, key=lambda one: -one.wrote)[:UNITS]))
        return found
