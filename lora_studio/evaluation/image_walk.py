"""Going through text encoders and denoiser module by module, so that a merge can be fitted to what
each source does on its own samples with what was fitted before already in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.method import Progress
from lora_studio.composition.probe import Fit, Part, Site
from lora_studio.engines.calls import Call, rows_of
from lora_studio.engines.denoiser_runs import DenoiserRuns, Run, Seen, updated
from lora_studio.engines.grouped_rows import Piece
from lora_studio.engines.image import ImageEngine

POSITIONS = 4096
"""Rows of a module's input that are looked at, over all scenes; more are drawn from."""
IN_FLIGHT = 64 << 20
"""Pixels of the pictures whose evaluations are under way at once; more samples are left out."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One recorded call of the denoiser with the half that knows the prompt.

    Args:
        source: place of the adapter whose samples these are; None is nobody's.
        updates: what acts when the source shows what it does; empty is the base model.
        prompts: one per row of the call.
    """

    source: int | None
    updates: Mapping[str, Piece]
    call: Call
    prompts: Sequence[str]


class ImageWalk:
    """One walk over the modules of an image model.

    Args:
        scenes: those of one source side by side.
        pixels: of one picture.
        start: modules to fit, and what acts in them until then.
        sequential: as in `WalkingProbe.walk`.
    """

    def __init__(
        self,
        engine: ImageEngine,
        scenes: Sequence[Scene],
        pixels: int,
        start: Adapter,
        sequential: bool,
    ) -> None:
        self._engine, self._sequential = engine, sequential
        runs = len(scenes) * (2 if sequential else 1)
        most = max(1, IN_FLIGHT // (pixels * runs))
        self._scenes = [_some(scene, most, place) for place, scene in enumerate(scenes)]
        self._merged = {name: self._piece(name, f) for name, f in start.factors.items()}
        alone = [Run(s.call, s.prompts, s.updates, i) for i, s in enumerate(self._scenes)]
        merged = [Run(s.call, s.prompts, self._merged, i) for i, s in enumerate(self._scenes)]
        self._runs = DenoiserRuns(
            engine,
            [*alone, *(merged if sequential else ())],
            start.factors.keys(),
            max(1, POSITIONS // len(scenes)),
        )

    def run(self, fit: Fit, progress: Progress, check: Callable[[], None]) -> None:
        """Has every module of `start` fitted that the model runs."""
        count, done = len(self._runs.groups), 0

        def at_group(group: list[str], seen: list[Seen]) -> None:
            nonlocal done
            check()
            progress(done / count, f"fitting modules: {done + 1} of {count}")
            done += 1
            own = seen[: len(self._scenes)]
            pairs = list(zip(own, seen[len(self._scenes) :] or own, strict=True))
            found = fit([Site(name, self._parts(name, pairs)) for name in group])
            self._merged |= {name: self._piece(name, factors) for name, factors in found.items()}

        self._runs.go(at_group)

    def _parts(self, name: str, pairs: Sequence[tuple[Seen, Seen]]) -> list[Part]:
        parts = []
        scenes = zip(self._scenes, pairs, strict=True)
        for source, mine in groupby(scenes, key=lambda one: one[0].source):
            wanted, inputs = list[Tensor](), list[Tensor]()
            for scene, (own, seen) in mine:
                wanted.append(self._wanted(name, scene, own, seen))
                inputs.append(seen.inputs.float())
            rows = torch.cat(inputs)
            weights = torch.full((len(rows),), 1 / len(rows), device=rows.device)
            parts.append(Part(source, rows, torch.cat(wanted), weights))
        return parts

    def _wanted(self, name: str, scene: Scene, own: Seen, seen: Seen) -> Tensor:
        """(rows, d_out) what leads from the merged model to what the source makes of the scene."""
        module, piece = self._engine.bank.modules[name], scene.updates.get(name)
        found = updated(module, piece, own.inputs, seen.inputs)
        if name in own.streams:
            found += own.streams[name].float() - seen.streams[name].float()
        return found

    def _piece(self, name: str, factors: LoraFactors) -> Piece:
        weight = self._engine.bank.modules[name].weight
        folded = factors.folded()
        assert isinstance(weight, Tensor)

        def move(array: object) -> Tensor:
            return torch.as_tensor(array).to(device=weight.device, dtype=weight.dtype)

        return Piece(move(folded.A), move(folded.B))


def _some(scene: Scene, most: int, place: int) -> Scene:
    """At most so many rows, others in the next scene of the same samples."""
    count = len(scene.prompts)
    if count <= most:
        return scene
    rows = sorted((place * most + i) % count for i in range(most))
    prompts = [scene.prompts[row] for row in rows]
    return Scene(scene.source, scene.updates, rows_of(scene.call, rows, count), prompts)
