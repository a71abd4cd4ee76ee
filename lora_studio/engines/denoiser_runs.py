"""Recorded calls of a denoiser run again side by side, each under its own updates, one group of
modules at a time: whoever listens sees what a group is given in every run before it acts, and may
still change the updates with which it does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, unfold

from lora_studio.engines.calls import Call, rows_of
from lora_studio.engines.grouped_rows import GroupedRows, Piece, Update
from lora_studio.engines.image import ImageEngine, plain
from lora_studio.engines.pausing import ENDED, Pausing
from lora_studio.engines.prompt_embeds import PromptEmbeds
from lora_studio.engines.residuals import Residuals
from lora_studio.errors import LoraStudioError

UNEVEN = (
    "The base model does not run '{}' alike for all prompts, so a merge cannot be fitted to it "
    "layer by layer. Choose a method that needs no samples."
)


def _nowhere(value: Any) -> None:
    raise RuntimeError("this pass has not begun")


@dataclass(frozen=True, eq=False)
class Run:
    """One call to be run again.

    Args:
        call: of the half that knows the prompt; its embeddings are made anew.
        prompts: one per row.
        updates: module -> update of all rows; read when the module acts.
        places: runs of the same places are looked at in the same positions.
    """

    call: Call
    prompts: Sequence[str]
    updates: Mapping[str, Update]
    places: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What a group of modules is given in one run, before it acts.

    Args:
        inputs: (rows, d_in) tokens, or what lies under a convolution's kernel.
        streams: module -> (rows, d_out) what its output is added to, where that is known.
    """

    inputs: Tensor
    streams: Mapping[str, Tensor]


@dataclass(eq=False)
class _Pass:
    """A run on its way."""

    run: Run
    read: dict[str, Tensor] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    pause: Callable[[Any], None] = _nowhere


class DenoiserRuns:
    """Text encoders and denoiser of an engine over some runs.

    Memory: what one evaluation keeps for later (skip connections) for every run, what it works with
    for one run, and `positions` rows of one group's inputs for every run.

    Args:
        names: modules to look at; those that do not run are left out.
        positions: of the tokens or pixels of a group's input, so many are looked at in each run,
            drawn at random.
    """

    def __init__(
        self, engine: ImageEngine, runs: Sequence[Run], names: Collection[str], positions: int
    ) -> None:
        self._engine, self._runs, self._positions = engine, runs, positions
        self._modules = {n: m for n, m in engine.bank.modules.items() if n in names}
        self._explore()

    def go(self, at_group: Callable[[list[str], list[Seen]], None]) -> None:
        """Calls `at_group` with each group and what it is given in every run."""
        passes = [_Pass(run) for run in self._runs]
        bodies = [Pausing(lambda pause, one=one: self._play(one, pause)) for one in passes]
        active: list[_Pass] = []

        def arrived(place: int, group: list[str]) -> Seen:
            active[:] = [passes[place]]
            found = bodies[place].resume()
            if found is ENDED or found[0] != group[0]:
                raise LoraStudioError(UNEVEN.format(group[0]))
            return found[1]

        def act(name: str, module: nn.Module, x: Tensor, out: Tensor) -> Tensor | None:
            return self._act(active[0], name, module, x, out)

        def read(name: str, x: Tensor) -> None:
            active[0].read[name] = x

        # Encoding a prompt activates nobody in the bank; whoever was active is put back behind all.
        with (
            self._engine.bank.active(GroupedRows((), 0)),
            _listening(self._modules, act, self._readers, read),
        ):
            try:
                for group in self.groups:
                    at_group(group, [arrived(place, group) for place in range(len(bodies))])
            finally:
                for body in bodies:
                    body.leave()

    def _play(self, one: _Pass, pause: Callable[[Any], None]) -> None:
        one.pause = pause
        self._evaluate(one.run.call, one.run.prompts)

    def _act(
        self, one: _Pass, name: str, module: nn.Module, x: Tensor, out: Tensor
    ) -> Tensor | None:
        if name in self._first and name not in one.met:
            one.met.add(name)
            one.pause((name, self._seen(one, name, module, x, out)))
        if name not in one.run.updates:
            return None
        rows = x.shape[0]
        return GroupedRows(((0, rows, one.run.updates),), rows).add(name, module, x, out)

    def _evaluate(self, call: Call, prompts: Sequence[str]) -> None:
        engine, kwargs = self._engine, dict(call.kwargs)
        if engine.family.embeds:
            plans = [plain({})] * len(prompts)
            embeds = PromptEmbeds(
                engine.pipe, engine.family, engine.bank, prompts, plans, 1, "", False
            )
            embeds.put(kwargs, [(row, 0) for row in range(len(prompts))], 0, ("cond",))
        engine.denoiser(*call.args, **kwargs)

    def _seen(self, one: _Pass, name: str, module: nn.Module, x: Tensor, out: Tensor) -> Seen:
        conv, place = isinstance(module, nn.Conv2d), self._first[name]
        count = out[:, 0].numel() if conv else out[..., 0].numel()
        chosen = torch.arange(count)
        if count > self._positions:
            dice = torch.Generator().manual_seed(1_000_003 * one.run.places + place)
            chosen = torch.randperm(count, generator=dice)[: self._positions].sort().values
        chosen = chosen.to(x.device)
        streams = {
            member: _rows(one.read.pop(self._added_to[member]), conv)[chosen]
            for member in self.groups[place]
            if member in self._added_to
        }
        if isinstance(module, nn.Conv2d):
            return Seen(_patches(module, x, chosen, count // len(x)), streams)
        return Seen(_rows(x, False)[chosen], streams)

    def _explore(self) -> None:
        """What runs, and in which order, and what adds to what, by one row of the first run."""
        run, last, kind, met = self._runs[0], torch.empty(0), "", set[str]()
        self.groups: list[list[str]] = []
        """Names of modules that are given the same input, in the order they run."""

        def note(name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
            nonlocal last, kind
            if name in met:
                return
            met.add(name)
            if x is not last or _kind(module) != kind:
                self.groups.append([])
            self.groups[-1].append(name)
            last, kind = x, _kind(module)

        residuals = Residuals(self._modules, self._leaves())
        with (
            torch.inference_mode(),
            self._engine.bank.active(GroupedRows((), 0)),
            _listening(self._modules, note),
            residuals.listening(),
        ):
            self._evaluate(rows_of(run.call, [0], len(run.prompts)), run.prompts[:1])
        self._first = {group[0]: place for place, group in enumerate(self.groups)}
        self._added_to = residuals.of
        leaves = self._leaves()
        self._readers = {name: leaves[name] for name in set(residuals.of.values())}

    def _leaves(self) -> dict[str, nn.Module]:
        modules = self._engine.bank.modules
        return {name: module for name, module in modules.items() if not list(module.children())}


def updated(module: nn.Module, piece: Piece | None, own: Tensor, seen: Tensor) -> Tensor:
    """(rows, d_out) what leads from a module's output on `seen` to that on `own` with an update.

    own, seen: (rows, d_in) as `DenoiserRuns.go` hands them over.
    """
    weight = _weight(module)
    found = linear((own - seen).to(weight.dtype), weight).float()
    if piece is None:
        return found
    if piece.gain is not None:
        found = found + piece.gain.float() * linear(own.to(weight.dtype), weight).float()
    return found + linear(linear(own.float(), piece.A.float()), piece.B.float())


def _rows(x: Tensor, conv: bool) -> Tensor:
    """(rows, channels) of tokens (..., channels) or pixels (n, channels, h, w)."""
    return (x.permute(0, 2, 3, 1) if conv else x).flatten(0, -2)


def _kind(module: nn.Module) -> str:
    """Equal for modules that make the same rows of the same input."""
    if not isinstance(module, nn.Conv2d):
        return "tokens"
    return str((module.kernel_size, module.stride, module.padding, module.dilation))


def _weight(module: Any) -> Tensor:
    """(d_out, d_in)"""
    if isinstance(module, nn.Conv2d):
        return module.weight.flatten(1)
    return module.weight if isinstance(module, nn.Linear) else module.weight.T


@contextmanager
def _listening(
    modules: Mapping[str, nn.Module],
    act: Callable[[str, nn.Module, Tensor, Tensor], Tensor | None],
    readers: Mapping[str, nn.Module] = MappingProxyType({}),
    read: Callable[[str, Tensor], None] | None = None,
) -> Iterator[None]:
    hooks = []

    def hook(name: str) -> Callable[..., Tensor | None]:
        return lambda module, args, out: act(name, module, args[0], out)

    def before(name: str) -> Callable[..., None]:
        return lambda module, args: read(name, args[0]) if read else None

    try:
        for name, module in modules.items():
            hooks.append(module.register_forward_hook(hook(name)))
        for name, module in readers.items():
            hooks.append(module.register_forward_pre_hook(before(name)))
        yield
    finally:
        for one in hooks:
            one.remove()


def _patches(conv: nn.Conv2d, x: Tensor, chosen: Tensor, per: int) -> Tensor:
    """(chosen, c_in * kh * kw) what lies under the kernel at some of the (n * per) outputs;
    picture by picture, so that only one is unfolded at a time."""
    found = []
    for place, picture in enumerate(x):
        mine = chosen[(chosen >= place * per) & (chosen < (place + 1) * per)] - place * per
        if len(mine):
            wide = pad(picture[None], conv._reversed_padding_repeated_twice)
            columns = unfold(wide, conv.kernel_size, conv.dilation, 0, conv.stride)[0]
            found.append(columns[:, mine].T)
    return torch.cat(found)
