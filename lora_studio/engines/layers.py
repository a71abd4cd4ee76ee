"""A language model run one decoder layer at a time over fixed texts, watching what its modules get
and give. Holds two states per token and the values of one layer, never those of the whole model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.row_factors import ModuleRows, RowFactors
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.errors import LoraStudioError

WRITES = 0.05
"""A module writes to the residual stream if what the stream gains is its output up to this share:
half-precision sums are not exact."""


@dataclass(eq=False)
class Watched:
    """What one run of a layer showed, over all tokens of all rows in the order of `Layers.order`.

    Args:
        groups: names of modules that got the same input, in the order they ran.
        inputs, before, after: by module, (tokens, d_in); (tokens, d_out) without and with updates.
        streams: the residual stream (tokens, width) at each place where it is read.
        writers: module -> index of the stream that its output is added to.
    """

    groups: list[list[str]] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    streams: list[Tensor] = field(default_factory=list)
    writers: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class _Batch:
    rows: list[int]
    mask: Tensor  # (n, T), true where there is a token
    first: Tensor  # (n, T, width) input of the first layer
    given: list[tuple[Sequence[Any], Mapping[str, Any]]]  # of each layer, beside its states


class Layers:
    """The decoder layers of an engine's model over rows of token ids.

    Args:
        engine: its bank holds whatever adapters take part, so that their hooks are in place.

    Raises:
        LoraStudioError: the model has no list of decoder layers.
    """

    def __init__(self, engine: TextEngine, rows: Sequence[Sequence[int]]) -> None:
        self.bank = engine.bank
        self._names, self.layers = _decoder_layers(engine.model)
        by_length = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
        step = engine.decoder.max_rows
        chosen = [by_length[i : i + step] for i in range(0, len(rows), step)]
        self._batches = [self._begin(engine, rows, batch) for batch in chosen]
        self.order = [i for batch in chosen for i in batch]
        """Rows in the order their tokens lie in what is watched."""

    def __len__(self) -> int:
        return len(self.layers)

    def modules(self, index: int) -> dict[str, nn.Module]:
        """Full name -> module that can carry an adapter, of one layer."""
        inside = dict(self.layers[index].named_modules())
        prefix = self._names[index]
        return {f"{prefix}.{name}": inside[name] for name in adaptable_modules(inside)}

    def start(self) -> list[Tensor]:
        """What the first layer is given, one tensor per batch."""
        return [batch.first for batch in self._batches]

    def gather(self, plans: Sequence[RowPlan]) -> list[RowFactors]:
        """The updates of each batch, row i under plans[i]."""
        return [self.bank.gather([plans[i] for i in batch.rows]) for batch in self._batches]

    def alike(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> list[RowFactors]:
        """The updates of each batch if every row has the same factors A, B by module."""
        return [
            RowFactors(
                (RowPlan(),) * len(batch.rows),
                {
                    name: ModuleRows(a[None], b[None], (len(a),) * len(batch.rows))
                    for name, (a, b) in pairs.items()
                },
            )
            for batch in self._batches
        ]

    @torch.inference_mode()
    def run(
        self,
        index: int,
        states: Sequence[Tensor],
        factors: Sequence[RowFactors],
        watch: Collection[str] = (),
    ) -> tuple[list[Tensor], Watched]:
        """The states behind a layer, and what the modules `watch` got and gave on the way."""
        layer, outputs, seen = self.layers[index], list[Tensor](), list[Watched]()
        chosen = {n: m for n, m in self.modules(index).items() if n in watch}
        for batch, state, updates in zip(self._batches, states, factors, strict=True):
            args, kwargs = batch.given[index]
            with self.bank.active(updates), _watching(layer, chosen, batch.mask) as found:
                out = layer(state, *args, **kwargs)
                out = out[0] if isinstance(out, tuple) else out
                found.end(out)
            outputs.append(out)
            seen.append(found.watched)
        return outputs, _joined(seen)

    @torch.inference_mode()
    def _begin(self, engine: TextEngine, rows: Sequence[Sequence[int]], batch: list[int]) -> _Batch:
        caught: list[tuple[Sequence[Any], Mapping[str, Any]]] = []

        def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught.append((args, kwargs))

        hooks = [x.register_forward_pre_hook(catch, with_kwargs=True) for x in self.layers]
        try:
            lists = [list(rows[i]) for i in batch]
            engine.decoder.scores(lists, RowFactors((), {}), 1)
        finally:
            for hook in hooks:
                hook.remove()
        given, first = [], None
        for args, kwargs in caught:
            kwargs = dict(kwargs)
            state = args[0] if args else kwargs.pop("hidden_states")
            first = state if first is None else first
            given.append((args[1:], kwargs))
        assert first is not None
        longest = first.shape[1]
        lengths = torch.tensor([len(rows[i]) for i in batch], device=first.device)
        places = torch.arange(longest, device=first.device)
        mask = places[None] >= longest - lengths[:, None]  # padding is on the left
        return _Batch(batch, mask, first, given)


class _Watcher:
    """Listens to one layer during one run."""

    def __init__(self, mask: Tensor) -> None:
        self.watched = Watched()
        self._mask = mask
        self._last: Tensor | None = None
        self._wrote: tuple[str, Tensor] | None = None
        self._raw: Tensor | None = None

    def before(self, name: str, x: Tensor, out: Tensor) -> None:
        if x.ndim != 3 or x.shape[:2] != self._mask.shape:
            return
        if x is not self._last or not self.watched.groups:
            self.watched.groups.append([])
        self.watched.groups[-1].append(name)
        self._last = x
        self.watched.inputs[name] = x[self._mask]
        self.watched.before[name] = out[self._mask]

    def after(self, name: str, out: Tensor) -> None:
        if name in self.watched.before:
            self.watched.after[name] = out[self._mask]
            self._wrote = (name, out)

    def stream(self, state: Tensor) -> None:
        """The stream is read here: who has written to it since the last time?"""
        if state.shape[:2] != self._mask.shape or state is self._raw:
            return
        if self._raw is not None and self._wrote and state.shape == self._raw.shape:
            name, out = self._wrote
            if out.shape == state.shape:
                gain = (state - self._raw).float()
                off = (gain - out.float())[self._mask].norm()
                if off <= WRITES * out.float()[self._mask].norm():
                    self.watched.writers[name] = len(self.watched.streams) - 1
        self.watched.streams.append(state[self._mask])
        self._raw, self._wrote = state, None

    def end(self, out: Tensor) -> None:
        self.stream(out)


@contextmanager
def _watching(
    layer: nn.Module, modules: Mapping[str, nn.Module], mask: Tensor
) -> Iterator[_Watcher]:
    """Hooks around the bank's own: outputs are seen before and after it adds its updates."""
    watcher, hooks = _Watcher(mask), []

    def before(name: str) -> Callable[..., None]:
        return lambda module, args, out: watcher.before(name, args[0], out)

    def after(name: str) -> Callable[..., None]:
        return lambda module, args, out: watcher.after(name, out)

    if modules:
        for name, module in modules.items():
            hooks.append(module.register_forward_hook(before(name), prepend=True))
            hooks.append(module.register_forward_hook(after(name)))
        for part in (layer, *_norms(layer)):
            hooks.append(
                part.register_forward_pre_hook(
                    lambda _, args, kwargs: watcher.stream(_state(args, kwargs)), with_kwargs=True
                )
            )
    try:
        yield watcher
    finally:
        for hook in hooks:
            hook.remove()


def _state(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else next(v for v in kwargs.values() if isinstance(v, Tensor))


def _norms(layer: nn.Module) -> list[nn.Module]:
    """The layer's own normalisations: what reads the residual stream."""
    return [
        child
        for child in layer.children()
        if not list(child.children()) and any(p.ndim == 1 for p in child.parameters())
    ]


def _joined(seen: Sequence[Watched]) -> Watched:
    """The batches one behind the other; who writes must do so in every batch."""
    first = seen[0]

    def joined(kind: str) -> dict[str, Tensor]:
        tables = [getattr(one, kind) for one in seen]
        return {name: torch.cat([t[name] for t in tables]) for name in tables[0]}

    writers = {n: i for n, i in first.writers.items() if all(n in s.writers for s in seen)}
    streams = [torch.cat(pieces) for pieces in zip(*(s.streams for s in seen), strict=True)]
    return Watched(
        first.groups, joined("inputs"), joined("before"), joined("after"), streams, writers
    )


def _decoder_layers(model: nn.Module) -> tuple[list[str], list[nn.Module]]:
    """Names and modules of the longest list of blocks that hold adaptable modules."""
    lists = [
        (name, child)
        for name, child in model.named_modules()
        if isinstance(child, nn.ModuleList)
        and len(child)
        and adaptable_modules(dict(child[0].named_modules()))
    ]
    if not lists:
        raise LoraStudioError(
            "This model has no list of decoder layers to go through. Choose a method that needs "
            "no samples, such as SVD of the sum."
        )
    name, found = max(lists, key=lambda item: len(item[1]))
    return [f"{name}.{i}" for i in range(len(found))], list(found)
