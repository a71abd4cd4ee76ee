"""How loudly each adapter answers to a prompt, from one pass with all of them attached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lora_studio.composition.token_router import Seen, router
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.engines.tracing import layer_of

FLOOR = 1e-12


def hear(
    engine: TextEngine,
    prompts: Sequence[str],
    ids: Sequence[str],
    check: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:
    """For each prompt, adapter id -> signal.

    LoGo's signal (arXiv 2511.07129) is |B_i A_i h| at the prompt's last token in the last layer.
    Here it is divided by the Frobenius norm of B_i A_i, so that a large adapter does not win by its
    size, and taken over all of the layer's modules that the adapter has (root mean square).

    Args:
        ids: adapters in the engine's bank.
    """
    plan = RowPlan(tuple((name, 1.0) for name in ids), router=router("even"))
    rows = [engine.prompt_ids(prompt) for prompt in prompts]
    sizes = _sizes(engine, ids)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[dict[str, float]] = [{}] * len(rows)
    step = engine.decoder.max_rows
    for start in range(0, len(order), step):
        check()
        batch = order[start : start + step]
        heard = _Heard(sizes)
        factors = replace(engine.bank.gather([plan] * len(batch)), watch=heard.take)
        engine.decoder.scores([rows[i] for i in batch], factors, 1)
        for i, signals in zip(batch, heard.signals(), strict=True):
            found[i] = dict(zip(ids, signals, strict=True))
    return found


class _Heard:
    """Sums over the modules of the last layer."""

    def __init__(self, sizes: Mapping[str, Tensor]) -> None:
        self._sizes = sizes
        self._squares: list[Tensor] = []  # (n, E) of each module

    def take(self, module: str, seen: Seen, weights: Tensor) -> None:
        """One module's part, relative to the size of each adapter in it."""
        if module not in self._sizes:
            return
        wrote = seen.wrote((seen.z * weights)[:, -1:])[:, 0]  # (n, E)
        self._squares.append(wrote / self._sizes[module].clamp(min=FLOOR))

    def signals(self) -> list[list[float]]:
        """For each row, the root mean square over the modules that each adapter has."""
        known = sum(size > 0 for size in self._sizes.values())
        assert isinstance(known, Tensor)
        mean = torch.stack(self._squares).sum(0) / known.clamp(min=1)
        return mean.sqrt().tolist()


def _sizes(engine: TextEngine, ids: Sequence[str]) -> dict[str, Tensor]:
    """Module of the last layer -> (E,) squared Frobenius norms, 0 where an adapter lacks it."""
    held = [engine.bank.gather([RowPlan(((name, 1.0),))]).modules for name in ids]
    names = dict.fromkeys(module for pieces in held for module in pieces)
    last = max(map(layer_of, names), default=0)
    found: dict[str, Tensor] = {}
    for module in names:
        if layer_of(module) == last:
            sizes = torch.zeros(len(ids), device=engine.device)
            for place, pieces in enumerate(held):
                if module in pieces:
                    a, b = pieces[module].A[0].float(), pieces[module].B[0].float()
                    sizes[place] = ((a @ a.T) * (b.T @ b)).sum()
            found[module] = sizes
    return found
