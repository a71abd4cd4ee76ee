"""A ModelProbe on a running image engine: merges are judged by how far they change the denoiser's
predictions as each source alone does, and fitted to what it does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch

from lora_studio.adapter import Adapter
from lora_studio.composition.method import Progress, no_progress
from lora_studio.composition.probe import Agreement, Fit, Walked
from lora_studio.engines.calls import Call, prompted, rows_of
from lora_studio.engines.grouped_rows import Piece
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.evaluation.image_walk import ImageWalk, Scene

PROMPTS_PER_SOURCE = 8
STEPS = 10
KEPT = (1, 3, 5, 8)
"""Steps of the short runs at which predictions are compared: mostly noise to mostly picture."""
HELD_OUT = 4
"""`split` keeps every fourth sample of a source for judging, of two or three the last."""
UNASKED = 8
"""Most pictures that the base model makes without a prompt, for the guard."""
ALIKE = 0.8
"""Share of a source's change from which on a sample counts as answered as the source would."""
REPRODUCED = "of what each source changes in the model's predictions is reproduced"


@dataclass(frozen=True, eq=False)
class Recorded:
    """Pictures of one source's sample prompts, on the way.

    Args:
        adapter: id of its content.
        rows: one per picture.
        calls: what the denoiser was given for all of them at each step kept, and what it predicted.
        gaps: of each picture, the squared change that the source makes in all predictions.
    """

    adapter: str
    rows: list[ImageRow]
    calls: list[Call]
    gaps: list[float]

    def some(self, chosen: Sequence[int]) -> Recorded:
        """Only these pictures."""
        calls = [rows_of(call, chosen, len(self.rows)) for call in self.calls]
        rows = [self.rows[i] for i in chosen]
        return Recorded(self.adapter, rows, calls, [self.gaps[i] for i in chosen])


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
        samples: id -> sample prompts; at most 8 of each are used.
        progress: called with (fraction, message) before each candidate; may raise to cancel.
        check: called between evaluations; may raise to cancel.
        side: of the pictures in pixels; 0 is the model's own.
        steps: of the ten, those at which predictions are kept.
    """

    def __init__(
        self,
        engine: ImageEngine,
        sources: Mapping[str, Adapter],
        samples: Mapping[str, Sequence[str]],
        progress: Progress = no_progress,
        check: Callable[[], None] | None = None,
        side: int = 0,
        steps: Collection[int] = KEPT,
    ) -> None:
        self._engine, self._progress, self._steps = engine, progress, steps
        self._check = check or (lambda: None)
        self._wish = Denoising(steps=STEPS, width=side, height=side)
        self._bare: dict[int, Recorded] = {}
        self._recorded: list[Recorded] = []
        with self._engine.bank.guests(sources) as guests:
            for name, source in sources.items():
                prompts = list(samples.get(name, ()))[:PROMPTS_PER_SOURCE]
                if prompts:
                    self._recorded.append(self._record(source.id, guests[name], prompts))

    def agreement(self, candidates: Sequence[tuple[Adapter, float]]) -> list[Agreement]:
        """One Agreement for each (adapter, scale)."""
        found: list[Agreement] = []
        for done, (adapter, scale) in enumerate(candidates):
            self._check()
            self._progress(done / len(candidates), f"trying strength {scale:g} on sample prompts")
            with self._engine.bank.guests({"candidate": adapter}) as guests:
                weights = {guests["candidate"]: scale}
                shares = [self._explained(weights, one) for one in self._recorded]
            mean = sum(shares) / max(len(shares), 1)
            prompts = sum(len(one.rows) for one in self._recorded)
            found.append(Agreement(max(0.0, mean), mean, prompts, REPRODUCED))
        return found

    def missed(self, candidate: Adapter) -> list[list[float]]:
        """Of each source and each of its pictures, |eps_candidate - eps_source|^2 / |eps_base -
        eps_source|^2 over all predictions kept."""
        with self._engine.bank.guests({"candidate": candidate}) as guests:
            found = [(one, self._off({guests["candidate"]: 1.0}, one)) for one in self._recorded]
        return [
            [off / max(gap, 1e-12) for off, gap in zip(offs, one.gaps, strict=True)]
            for one, offs in found
        ]

    def walk(
        self,
        sources: Sequence[tuple[Adapter, float]],
        start: Adapter,
        fit: Fit,
        *,
        sequential: bool = True,
        guard: int = 0,
        together: float = 2.0,
    ) -> Walked:
        """As `WalkingProbe.walk`. Generic texts are pictures that the base model makes without a
        prompt; `together` asks for samples of which the sum reproduces four fifths."""
        with self._engine.bank.guests({a.id: a for a, _ in sources}) as guests:
            everyone = {guests[a.id]: strength for a, strength in sources}
            given = {a.id: place for place, (a, _) in enumerate(sources)}
            present = [one for one in self._recorded if one.adapter in given]
            if not present:
                return Walked(0)
            agreed = [self._agreed(everyone, one) if together <= 1 else [] for one in present]
            count = sum(len(one.rows) for one in present)
            share = sum(map(len, agreed)) / count if together <= 1 else None
            all_at_once = share is not None and share >= together
            scenes: list[Scene] = []
            for one, alike in zip(present, agreed, strict=True):
                place, shown = given[one.adapter], alike if all_at_once else []
                alone = {guests[one.adapter]: sources[place][1]}
                rest = [row for row in range(len(one.rows)) if row not in shown]
                scenes += self._scenes(place, alone, one.some(rest))
                scenes += self._scenes(place, everyone, one.some(shown))
            wish = self._engine.settled(self._wish)
            scenes += self._scenes(None, {}, self._unasked(min(guard, UNASKED)))
            pixels = wish.width * wish.height
            walk = ImageWalk(self._engine, scenes, pixels, start, sequential)
            walk.run(fit, self._progress, self._check)
        return Walked(count, share, all_at_once)

    def split(self) -> tuple[ImageProbe, ImageProbe]:
        """As `WalkingProbe.split`; nothing is drawn again."""
        fitted, judged = copy(self), copy(self)
        fitted._recorded, judged._recorded = [], []
        for one in self._recorded:
            every = range(len(one.rows))
            held = list(every[HELD_OUT - 1 :: HELD_OUT]) or list(every[1:][-1:])
            fitted._recorded.append(one.some([row for row in every if row not in held]))
            if held:
                judged._recorded.append(one.some(held))
        return fitted, judged

    def _record(self, adapter: str, name: str, prompts: Sequence[str]) -> Recorded:
        rows = [
            ImageRow(str(i), prompt, plain({name: 1.0}), seed=i) for i, prompt in enumerate(prompts)
        ]
        calls = self._engine.record(rows, self._wish, self._steps, self._check)
        recorded = Recorded(adapter, rows, calls, [0.0] * len(rows))
        return replace(recorded, gaps=self._off({}, recorded))

    def _off(self, weights: Mapping[str, float], recorded: Recorded) -> list[float]:
        """Of each picture the squared distance to the source's predictions, over all calls."""
        mine = [replace(row, plan=plain(weights)) for row in recorded.rows]
        answers = self._engine.replay(recorded.calls, mine, self._wish)
        found = torch.zeros(len(mine), dtype=torch.float64)
        for answer, call in zip(answers, recorded.calls, strict=True):
            off = (answer.float() - call.prediction.float()).square().flatten(1).sum(1)
            found += off.unflatten(0, (-1, len(mine))).sum(0).double().cpu()
        return found.tolist()

    def _explained(self, weights: Mapping[str, float], recorded: Recorded) -> float:
        return 1.0 - sum(self._off(weights, recorded)) / max(sum(recorded.gaps), 1e-12)

    def _agreed(self, weights: Mapping[str, float], recorded: Recorded) -> list[int]:
        """Pictures that go the source's way under these weights too."""
        off = zip(self._off(weights, recorded), recorded.gaps, strict=True)
        return [row for row, (mine, gap) in enumerate(off) if mine <= (1 - ALIKE) * gap]

    def _scenes(
        self, place: int | None, weights: Mapping[str, float], recorded: Recorded
    ) -> list[Scene]:
        if not recorded.rows:
            return []
        pieces = self._engine.bank.pieces(weights, ("",))
        updates = {name: piece for name, piece in pieces.items() if isinstance(piece, Piece)}
        prompts = [row.prompt for row in recorded.rows]
        # Where the two halves are two calls of a step, the one with the prompt comes first.
        firsts = {call.step: call for call in reversed(recorded.calls)}
        halves = self._engine.family.halves
        return [
            Scene(place, updates, prompted(firsts[step], halves, len(prompts)), prompts)
            for step in sorted(firsts)
        ]

    def _unasked(self, count: int) -> Recorded:
        """What the base model draws when nobody asks it anything; drawn once."""
        if count not in self._bare:
            rows = [ImageRow(str(i), "", plain({}), seed=i) for i in range(count)]
            calls = self._engine.record(rows, self._wish, self._steps, self._check) if rows else []
            self._bare[count] = Recorded("", rows, calls, [0.0] * count)
        return self._bare[count]
