"""Fits a gate for a base model: on the prompts of one adapter, with others added, it learns to
predict as that adapter alone. Needs no pictures.

`python -m lora_studio.training.image_gate --base BASE ADAPTER ADAPTER [...]`
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lora_studio.adapter import Adapter
from lora_studio.composition.gate import KIND, VECTORS, Gate, save_gate
from lora_studio.composition.method import Progress, no_progress
from lora_studio.composition.schedule import Scheduled, constant
from lora_studio.engines.image import Call, Denoising, ImageEngine, ImageRow, plain
from lora_studio.errors import InvalidRequest
from lora_studio.fitted import own_path
from lora_studio.formats import load_adapter
from lora_studio.settings import DEMO_IMAGE_BASE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateSpec:
    """How a gate is fitted.

    Args:
        steps, rate: optimiser steps, peak rate of a line that falls to zero.
        prompts, batch: sample prompts of each adapter, and how many of them make one batch.
        measured: pairs of recorded call and other adapter whose mean loss is told.
        run, kept: denoising steps of a recorded run, and those whose predictions are learned from.
    """

    steps: int = 400
    rate: float = 0.02
    prompts: int = 12
    batch: int = 4
    run: int = 10
    kept: tuple[int, ...] = (0, 1, 2, 4, 6, 8)
    measured: int = 24
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Lesson:
    """A recorded call of one adapter alone: what is to be predicted though others are added.

    Args:
        gap: mean squared difference of that prediction from the base model's.
    """

    owner: str
    rows: Sequence[ImageRow]
    call: Call
    gap: float


def fit_gate(
    engine: ImageEngine,
    sources: Mapping[str, Adapter],
    spec: GateSpec = GateSpec(),
    progress: Progress = no_progress,
    check: Callable[[], None] = lambda: None,
) -> Gate:
    """Fits AutoLoRA's gate by imitation: loss = |eps_gated(i + j) - eps_i|^2 / |eps_base - eps_i|^2
    on what adapter i alone was given while it drew its own sample prompts, j drawn from the others.

    The paper fits on example pictures of the adapters instead, and adds a term that keeps the
    other adapter's loss up. The gate starts as the plain sum of all adapters (all vectors 0, w_out
    2) and is kept there in modules that no adapter has.

    Args:
        sources: name -> adapter, at least two, whose cards have sample prompts.
        check: called between steps; may raise to cancel.

    Returns:
        The gate; its facts have the mean loss "before" fitting, that of the plain sum, and "after".

    Raises:
        InvalidRequest: too few adapters with sample prompts.
    """
    taught = [name for name, adapter in sources.items() if adapter.card.samples]
    if len(taught) < 2:
        raise InvalidRequest("Fitting a gate needs two or more adapters with sample prompts.")
    started, rng = time.time(), np.random.default_rng(spec.seed)
    wish = Denoising(steps=spec.run)
    with engine.bank.guests(sources) as guests:
        lessons: list[Lesson] = []
        for place, name in enumerate(taught):
            progress(0.2 * place / len(taught), f"watching {name}")
            lessons += _record(engine, guests[name], sources[name], wish, spec, check)
        others = [guests[name] for name in taught]
        pairs = [(lesson, other) for lesson in lessons for other in others if other != lesson.owner]
        vectors = _vectors(engine, sources)

        def loss(place: int) -> Tensor:
            lesson, other = pairs[place]
            return _loss(engine, lesson, other, Gate(vectors), wish)

        some = [int(i) for i in rng.permutation(len(pairs))[: spec.measured]]
        before = _mean(loss, some)
        weights = [v for module in vectors.values() for v in module.values()]
        optimiser = torch.optim.Adam(weights, lr=spec.rate)
        for step in range(spec.steps):
            check()
            optimiser.param_groups[0]["lr"] = spec.rate * (1 - step / spec.steps)
            optimiser.zero_grad()
            loss(int(rng.integers(len(pairs)))).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            if step % 20 == 19:
                progress(0.2 + 0.8 * (step + 1) / spec.steps, f"fitting, step {step + 1}")
        after = _mean(loss, some)
    facts = {
        "adapters": taught,
        "steps": spec.steps,
        "before": round(before, 4),
        "after": round(after, 4),
        "seconds": round(time.time() - started),
    }
    return Gate(_arrays(vectors), facts)


def _mean(loss: Callable[[int], Tensor], places: Sequence[int]) -> float:
    with torch.no_grad():
        return sum(loss(place).item() for place in places) / len(places)


def _arrays(vectors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        module: {name: v.detach().cpu().float().numpy() for name, v in named.items()}
        for module, named in vectors.items()
    }


def _record(
    engine: ImageEngine,
    name: str,
    adapter: Adapter,
    wish: Denoising,
    spec: GateSpec,
    check: Callable[[], None],
) -> Iterator[Lesson]:
    prompts = adapter.card.samples[: spec.prompts]
    for start in range(0, len(prompts), spec.batch):
        some = prompts[start : start + spec.batch]
        rows = [ImageRow(str(i), p, plain({name: 1.0}), start + i) for i, p in enumerate(some)]
        calls = engine.record(rows, wish, spec.kept, check)
        bare = engine.replay(calls, [replace(row, plan=plain({})) for row in rows], wish)
        for call, base in zip(calls, bare, strict=True):
            gap = float((base - call.prediction).float().square().mean())
            if gap > 0:
                yield Lesson(name, rows, call, gap)


def _loss(engine: ImageEngine, lesson: Lesson, other: str, gate: Gate, wish: Denoising) -> Tensor:
    plan = Scheduled((constant({lesson.owner: 1.0, other: 1.0}, gate=gate),))
    rows = [replace(row, plan=plan) for row in lesson.rows]
    (answer,) = engine.replay([lesson.call], rows, wish, gradients=True)
    return (answer.float() - lesson.call.prediction.float()).square().mean() / lesson.gap


def _vectors(engine: ImageEngine, sources: Mapping[str, Adapter]) -> dict[str, dict[str, Tensor]]:
    """Trainable vectors that let everything pass, for each module of the denoiser in use."""
    prefix = f"{engine.family.denoiser}."
    sizes = {n: m.d_out for a in sources.values() for n, m in a.factors.items()}
    found: dict[str, dict[str, Tensor]] = {}
    for name in sorted(n for n in sizes if n.startswith(prefix)):
        start = dict.fromkeys(VECTORS, 0.0) | {"out": 2.0}
        found[name] = {
            vector: torch.full((sizes[name],), value, device=engine.device, requires_grad=True)
            for vector, value in start.items()
        }
    return found


def main(arguments: list[str] | None = None) -> None:
    """Command line: fits and writes the gate to where compositions look for it."""
    parser = argparse.ArgumentParser(
        prog="python -m lora_studio.training.image_gate", description=__doc__
    )
    parser.add_argument("adapters", nargs="+", type=Path, help="adapter files or folders")
    parser.add_argument("--base", default=DEMO_IMAGE_BASE, help="pipeline folder or Hub id")
    parser.add_argument("--steps", type=int, default=GateSpec.steps)
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--out", type=Path, help="default: where the studio looks for it")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sources = {path.stem: load_adapter(path) for path in options.adapters}
    engine = ImageEngine(options.base, options.device)
    gate = fit_gate(
        engine,
        sources,
        GateSpec(steps=options.steps),
        lambda share, text: log.info("%3.0f %% %s", 100 * share, text),
    )
    out = options.out or own_path(KIND, options.base)
    save_gate(gate, out)
    log.info("%s", out)


if __name__ == "__main__":
    main()
