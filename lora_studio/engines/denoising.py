"""The one wrapper around a denoiser's forward pass: expands each picture into the branches its
plan asks for at this step, runs them with their adapters, and aggregates the predictions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lora_studio.composition.schedule import Aggregator, Scheduled, StepView
from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.attention import AttentionRules, Seat
from lora_studio.engines.evaluations import Evaluation, Key, chunks, key_of
from lora_studio.engines.grouped_rows import GroupedRows, Stack, Update
from lora_studio.engines.prompt_embeds import PromptEmbeds
from lora_studio.families.family import Family

UNBATCHED = frozenset({"img_ids", "txt_ids"})
"""Arguments whose first dimension is never the batch."""
KEPT = 16
"""Sets of weighted factors remembered between steps."""

Listener = Callable[[int, Sequence[Any], Mapping[str, Any], Tensor], None]


class Conductor:
    """Stands in for `denoiser.forward` while pictures are made.

    Args:
        bank: holds every adapter of the plans.
        plans: one per picture of the batch.
        steps: steps of the run.
        grid: (height, width) of the prediction in latent pixels, or in tokens where packed.
        embeds: prompt embeddings by picture and text weights, or None to leave the pipeline's.
        max_batch: largest batch given to the denoiser; more is run in parts.
        listen: told (step, args, kwargs, prediction) of every call.
        step: step the run begins at.
        attention: what happens inside the denoiser's attention, if any plan asks for it.
    """

    def __init__(
        self,
        bank: AdapterBank,
        family: Family,
        plans: Sequence[Scheduled],
        steps: int,
        grid: tuple[int, int],
        embeds: PromptEmbeds | None,
        max_batch: int,
        listen: Listener | None = None,
        step: int = 0,
        attention: AttentionRules | None = None,
    ) -> None:
        self._bank, self._family, self._plans = bank, family, plans
        self._steps, self._grid, self._embeds = steps, grid, embeds
        self._max_batch = max(1, max_batch)
        self._listen, self._attention = listen, attention
        self._last: tuple[Sequence[Any], Mapping[str, Any]] = ((), {})
        self._step, self._call = step, 0
        self._aggregators: dict[tuple[int, int], Aggregator] = {}
        self._pieces: OrderedDict[Key, Mapping[str, Update]] = OrderedDict()
        self._stacks: dict[tuple[Key, ...], dict[str, Stack | None]] = {}
        self._forward: Callable[..., Any] = _nowhere
        self.evaluated = [0] * len(plans)
        self.calls = 0

    @contextmanager
    def conducting(self, denoiser: nn.Module) -> Iterator[None]:
        """Within, the denoiser's forward is this object; whatever happens, it is put back."""
        own = denoiser.__dict__.get("forward")
        self._forward = denoiser.forward
        denoiser.forward = self
        try:
            with self._attention.attending() if self._attention else nullcontext():
                yield
        finally:
            if own is None:
                del denoiser.forward
            else:
                denoiser.forward = own

    def step_ended(self) -> None:
        """To be called after each step of the scheduler."""
        self._step += 1
        self._call = 0

    def passes(self, row: int) -> float:
        """Denoiser evaluations of a picture per evaluation of a plain run."""
        return self.evaluated[row] / max(self.calls, 1)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = batch_size([*args, *kwargs.values()])
        halves = self._halves(batch)
        self._last = (args, kwargs)
        parts = self._evaluated(self._evaluations(), halves, batch, args, kwargs)
        self._call += 1
        self.calls += 1
        joined = self._joined(parts, halves)
        if self._listen is not None:
            self._listen(self._step, args, kwargs, joined)
        return self._as_output(joined, kwargs.get("return_dict", True))

    def watch(self, sample: Tensor, timestep: Any, rows: Sequence[int]) -> None:
        """Evaluates every branch of some pictures under the prompt alone, with gradients, for what
        the attention rules see of it.

        Args:
            sample: (pictures, ...) latents as the denoiser is given them.
            timestep: that of the coming step.
        """
        args, kwargs = self._last
        batch, count = batch_size([*args, *kwargs.values()]), len(self._plans)
        first = self._family.halves.index("cond") * count if batch == 2 * count else 0
        prompted = {k: take(v, range(first, first + count), batch) for k, v in kwargs.items()}
        step = min(self._step, self._steps - 1)
        jobs = [
            self._evaluation(row, branch, step)
            for row in rows
            for branch in range(len(self._plans[row].branches))
        ]
        self._evaluated(jobs, ("cond",), count, (sample, timestep, *args[2:]), prompted)

    def _evaluated(
        self,
        jobs: Sequence[Evaluation],
        halves: tuple[str, ...],
        batch: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> dict[tuple[int, int], Tensor]:
        """(picture, branch) -> (halves, ...) prediction."""
        if self._attention is not None:
            self._attention.begin()
        parts: dict[tuple[int, int], Tensor] = {}
        whole = self._attention is not None and self._attention.mixes
        most = max(1, self._max_batch // len(halves))
        for chunk in chunks(jobs, most, alike=self._family.mixes_rows, whole=whole):
            found = self._run(chunk, halves, batch, args, kwargs)
            parts |= {(j.row, j.branch): p for j, p in zip(chunk, found, strict=True)}
        return parts

    def _halves(self, batch: int) -> tuple[str, ...]:
        if batch == 2 * len(self._plans):
            return self._family.halves
        return ("cond",) if self._call == 0 else ("uncond",)

    def _evaluations(self) -> list[Evaluation]:
        """Branches to run at this step."""
        step = min(self._step, self._steps - 1)
        jobs: list[Evaluation] = []
        for row in range(len(self._plans)):
            wanted = self._aggregator(row).wanted(step, self._steps)
            jobs += [self._evaluation(row, branch, step) for branch in wanted]
            self.evaluated[row] += len(wanted)
        return jobs

    def _evaluation(self, row: int, branch: int, step: int) -> Evaluation:
        chosen = self._plans[row].branches[branch]
        weights = chosen.schedule(step, self._steps)
        return Evaluation(row, branch, key_of(weights, chosen.gate), weights)

    def _run(
        self,
        jobs: Sequence[Evaluation],
        halves: tuple[str, ...],
        batch: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> list[Tensor]:
        rows, width = len(self._plans), len(halves)
        index = [half * rows + job.row for job in jobs for half in range(width)]
        groups = []
        for place, job in enumerate(jobs):
            first = place * width
            if groups and groups[-1][3] == job.key:
                first = groups.pop()[0]
            groups.append((first, (place + 1) * width, self._factors(job), job.key))
        taken_args = [take(value, index, batch) for value in args]
        taken = {k: v if k in UNBATCHED else take(v, index, batch) for k, v in kwargs.items()}
        if self._embeds is not None:
            step = min(self._step, self._steps - 1)
            self._embeds.put(taken, [(job.row, job.branch) for job in jobs], step, halves)
        if self._attention is not None:
            seats = [Seat(job.row, job.branch, half) for job in jobs for half in halves]
            self._attention.seat(seats, taken_args[0].device)
        present = tuple(group for group in groups if group[2])
        stacks = self._stacks.setdefault(tuple(group[3] for group in present), {})
        grouped = GroupedRows(tuple(group[:3] for group in present), len(index), stacks)
        with self._bank.active(grouped):
            out = self._forward(*taken_args, **taken)
        sample = out[0] if isinstance(out, tuple) else out.sample
        if isinstance(sample, list):
            sample = torch.stack(sample)
        return list(sample.unflatten(0, (len(jobs), width)).unbind(0))

    def _joined(self, parts: Mapping[tuple[int, int], Tensor], halves: tuple[str, ...]) -> Tensor:
        """(halves * pictures, ...) aggregated predictions in the order the pipeline expects."""
        whole: list[Tensor] = []
        for row in range(len(self._plans)):
            mine = {branch: p for (owner, branch), p in parts.items() if owner == row}
            whole.append(self._combine(row, mine, halves))
        return torch.stack(whole, dim=1).flatten(0, 1)

    def _as_output(self, joined: Tensor, as_output: bool) -> Any:
        if self._family.name == "z-image":
            return (list(joined.unbind(0)),)
        if as_output:
            from diffusers.models.modeling_outputs import Transformer2DModelOutput

            return Transformer2DModelOutput(sample=joined)
        return (joined,)

    def _combine(self, row: int, parts: dict[int, Tensor], halves: tuple[str, ...]) -> Tensor:
        first = next(iter(parts.values()))
        frames = first.ndim == 5  # (halves, channels, 1, height, width)
        if frames:
            parts = {branch: part.flatten(1, 2) for branch, part in parts.items()}
        packed = first.ndim == 3
        tokens = self._grid[0] * self._grid[1] == first.shape[1]
        size = self._grid if packed and tokens else tuple(first.shape[1 if packed else -2 :][:2])
        size = (first.shape[1],) if packed and not tokens else size
        maps = self._attention.maps(row) if self._attention else {}
        view = StepView(min(self._step, self._steps - 1), self._steps, halves, size, maps)
        found = self._aggregator(row, self._call - 1).combine(parts, view)
        return found.unflatten(1, first.shape[1:3]) if frames else found

    def _aggregator(self, row: int, call: int | None = None) -> Aggregator:
        place = (row, self._call if call is None else call)
        if place not in self._aggregators:
            self._aggregators[place] = self._plans[row].aggregator()
        return self._aggregators[place]

    def _factors(self, job: Evaluation) -> Mapping[str, Update]:
        if job.key in self._pieces:
            self._pieces.move_to_end(job.key)
            return self._pieces[job.key]
        gate = self._plans[job.row].branches[job.branch].gate
        found = self._bank.pieces(job.weights, (f"{self._family.denoiser}.",), gate)
        self._pieces[job.key] = found
        if len(self._pieces) > KEPT:
            self._pieces.popitem(last=False)
            self._stacks.clear()
        return found


def batch_size(values: Sequence[Any]) -> int:
    """Rows of the first argument that has any."""
    first = next(v for v in values if isinstance(v, Tensor | list))
    return len(first)


def take(value: Any, index: Sequence[int], batch: int) -> Any:
    """The rows `index` of whatever carries one entry per row; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim and value.shape[0] == batch:
        return value[torch.tensor(index, dtype=torch.long, device=value.device)]
    if isinstance(value, list) and len(value) == batch:
        return [value[i] for i in index]
    if isinstance(value, dict):
        return {name: take(item, index, batch) for name, item in value.items()}
    return value


def _nowhere(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the conductor stands in for no denoiser")
