"""Fits a token router: base model and adapters stay as they are, and it learns which of the
adapters at hand to hear, from their own answers to their sample inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lora_studio.adapter import Adapter
from lora_studio.composition.method import METHODS, Inputs, Progress, no_progress
from lora_studio.composition.plan import Routed
from lora_studio.composition.router_weights import RouterWeights
from lora_studio.composition.token_router import Seen, TokenRouter, fitted_rules
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.errors import InvalidRequest
from lora_studio.training.lessons import Lesson, lessons_of, padded

START = 0.02
"""Spread of the first values of keys and of the query's A."""


@dataclass(frozen=True)
class RouterSpec:
    """How a token router is fitted.

    Args:
        rule: one of `fitted_rules`.
        rank: of the query of `router_lora`.
        steps, rate, batch: optimiser steps, peak rate of a line that falls to zero, rows a step.
        samples, answer: sample inputs of each adapter, most tokens of an answer.
        among: adapters a row has to choose from: its own and others drawn at random.
        drop: chance that a row goes without its own adapter, so that the router learns what to do
            for prompts that nobody was trained for. 0 for rules that are fitted to a fixed set.
        balance: `smora`: what a step adds to the bias of units chosen less than the average, and
            takes from others. `meteora`: weight of the loss that evens out who is heard.
        params: of the rule, as of the method of its name; what is missing has its default there.
    """

    rule: str = "router_lora"
    rank: int = 8
    steps: int = 300
    rate: float = 0.01
    batch: int = 16
    samples: int = 20
    answer: int = 48
    among: int = 3
    drop: float = 0.3
    balance: float = 1e-4
    seed: int = 0
    params: tuple[tuple[str, float | str], ...] = ()


def fit_router(
    engine: TextEngine,
    adapters: Mapping[str, Adapter],
    samples: Mapping[str, Sequence[str]],
    spec: RouterSpec = RouterSpec(),
    progress: Progress = no_progress,
    check: Callable[[], None] = lambda: None,
) -> RouterWeights:
    """Minimises the cross-entropy of the adapters' own greedy answers, each row under its own
    adapter and others that it has to tell it from.

    RAMoLE (arXiv 2406.16989) fits on 40 % of the adapters and serves the rest; MeteoRA and SMoRA
    fit a gate for a fixed set. Labels are not needed: an adapter's answers are what is asked for.

    Args:
        adapters: id -> adapter, two or more. samples: id -> sample inputs.
        check: called between steps; may raise to cancel.

    Returns:
        The fitted part, with the loss before and after in its facts.

    Raises:
        InvalidRequest: a rule without a fitted part, or fewer than two adapters with samples.
    """
    if spec.rule not in fitted_rules():
        names = ", ".join(fitted_rules())
        raise InvalidRequest(f"{spec.rule} has nothing to fit. Choose one of {names}.")
    taught = [name for name in adapters if samples.get(name)]
    if len(taught) < 2:
        raise InvalidRequest("Fitting a router needs two or more adapters with sample inputs.")
    started = time.time()
    for name, adapter in adapters.items():
        engine.bank.add(name, adapter, keep=adapters.keys())
    fit = _Fit(engine, adapters, spec)
    progress(0.0, "asking the adapters for their own answers")
    asked = {name: list(samples[name])[: spec.samples] for name in taught}
    lessons = lessons_of(engine, asked, spec.answer, check)
    before, after = fit.run(lessons, progress, check)
    facts = {
        **asdict(spec),
        "params": dict(fit.router.params),
        "adapters": taught,
        "lessons": len(lessons),
        "loss": {"before": round(before, 4), "after": round(after, 4)},
        "seconds": round(time.time() - started, 1),
    }
    return replace(fit.weights(), facts=facts)


class _Fit:
    """One fit on its way: its trainable tensors stand in the bank's router parts."""

    def __init__(
        self, engine: TextEngine, adapters: Mapping[str, Adapter], spec: RouterSpec
    ) -> None:
        self.engine, self.adapters, self.spec = engine, adapters, spec
        self.rng = np.random.default_rng(spec.seed)
        self.router = _router(spec, adapters)
        self.queries: dict[str, tuple[Tensor, Tensor]] = {}
        self.keys: dict[str, dict[str, Tensor]] = {}
        generator = torch.Generator().manual_seed(spec.seed)
        for name, adapter in adapters.items():
            for module, factors in adapter.factors.items():
                self._begin(name, module, (factors.rank, factors.d_in, factors.d_out), generator)
        self.trained = [
            *(t for pair in self.queries.values() for t in pair),
            *(t for rows in self.keys.values() for t in rows.values()),
        ]
        for tensor in self.trained:
            tensor.requires_grad_()
        self._counts: dict[tuple[str, str], Tensor] = {}
        self._uneven: list[Tensor] = []
        self._terms: list[tuple[tuple[str, float], ...]] = []

    def _begin(
        self, name: str, module: str, dims: tuple[int, int, int], generator: torch.Generator
    ) -> None:
        rank, d_in, d_out = dims
        device = self.engine.device

        def small(*shape: int) -> Tensor:
            return (START * torch.randn(*shape, generator=generator)).to(device)

        if self.spec.rule == "router_lora" and module not in self.queries:
            zeros = torch.zeros(d_out, self.spec.rank, device=device)
            self.queries[module] = (small(self.spec.rank, d_in) / START / d_in**0.5, zeros)
        elif self.spec.rule == "smora":
            keys = small(rank, d_in + 1)
            keys[:, -1] = 0.0
            self.keys.setdefault(name, {})[module] = keys
        elif self.spec.rule == "meteora":
            self.keys.setdefault(name, {})[module] = small(1, d_in)

    def run(
        self, lessons: Sequence[Lesson], progress: Progress, check: Callable[[], None]
    ) -> tuple[float, float]:
        """Mean loss of all lessons, nobody dropped, before and after fitting."""
        spec = self.spec
        self._equip()
        before = self._measured(lessons)
        optimiser = torch.optim.Adam(self.trained, lr=spec.rate)
        for step in range(spec.steps):
            check()
            optimiser.param_groups[0]["lr"] = spec.rate * (1 - step / spec.steps)
            optimiser.zero_grad()
            places = self.rng.choice(len(lessons), min(spec.batch, len(lessons)), replace=False)
            loss = self._loss([lessons[int(i)] for i in places], drop=spec.drop)
            loss.backward()
            self._leave_biases()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            optimiser.step()
            self._balance()
            if step % 10 == 9:
                said = f"step {step + 1} of {spec.steps}, loss {float(loss.detach()):.3f}"
                progress(0.1 + 0.9 * (step + 1) / spec.steps, said)
        return before, self._measured(lessons)

    def weights(self) -> RouterWeights:
        """The fitted part as arrays."""

        def array(tensor: Tensor) -> np.ndarray:
            return tensor.detach().cpu().numpy()

        queries = {module: (array(a), array(b)) for module, (a, b) in self.queries.items()}
        keys = {
            name: {module: array(tensor) for module, tensor in rows.items()}
            for name, rows in self.keys.items()
        }
        return RouterWeights(self.spec.rule, queries, keys)

    def _equip(self) -> None:
        parts: RouterWeights = RouterWeights(self.spec.rule, self.queries, self.keys)  # pyright: ignore[reportArgumentType]
        self.engine.bank.routers.equip(parts)

    @torch.no_grad()
    def _measured(self, lessons: Sequence[Lesson]) -> float:
        rng, self.rng = self.rng, np.random.default_rng(self.spec.seed + 1)
        size = 4 * self.spec.batch
        parts = [lessons[i : i + size] for i in range(0, len(lessons), size)]
        total = sum(float(self._loss(part, drop=0.0)) * len(part) for part in parts)
        self.rng = rng
        return total / len(lessons)

    def _loss(self, lessons: Sequence[Lesson], drop: float) -> Tensor:
        """Mean over lessons of the cross-entropy per token of the answer."""
        plans = [self._plan(lesson.owner, drop) for lesson in lessons]
        self._terms = [plan.terms for plan in plans]
        bank, model = self.engine.bank, self.engine.model
        self._counts.clear()
        self._uneven.clear()
        factors = replace(bank.gather(plans), watch=self._watch)
        ids, mask, targets = padded(lessons, self.engine.decoder.pad, self.engine.device)
        with bank.active(factors):
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        gains = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), targets[:, 1:], ignore_index=-100, reduction="none"
        )  # (n, T - 1)
        known = (targets[:, 1:] != -100).sum(1).clamp(min=1)
        loss = (gains.sum(1) / known).mean()
        if self.spec.rule == "meteora" and self._uneven:
            loss = loss + self.spec.balance * torch.stack(self._uneven).mean()
        return loss

    def _plan(self, owner: str, drop: float) -> RowPlan:
        others = [name for name in self.adapters if name != owner]
        count = min(self.spec.among - 1, len(others))
        drawn = [others[int(i)] for i in self.rng.permutation(len(others))]
        away = self.rng.random() < drop and len(others) > 1
        names = drawn[: count + 1] if away else [owner, *drawn[:count]]
        return RowPlan(tuple((name, 1.0) for name in sorted(names)), router=self.router)

    def _watch(self, module: str, seen: Seen, weights: Tensor) -> None:
        """Counts which units were chosen (`smora`), or how uneven the shares are (`meteora`)."""
        if self.spec.rule == "meteora":
            mean = seen.passed(weights).mean((0, 1))  # (E,)
            self._uneven.append(len(mean) * mean.square().sum())
        elif self.spec.rule == "smora":
            self._tally(module, (weights.detach() > 0).float().sum(1), seen)

    def _tally(self, module: str, counts: Tensor, seen: Seen) -> None:
        """Adds tokens by chosen unit (n, R) to those of each adapter's units."""
        member = seen.member.expand(len(counts), -1, -1) > 0  # (n, R, E)
        for row, terms in enumerate(self._terms):
            for place, (name, _) in enumerate(terms):
                if module in self.keys[name]:
                    mine = counts[row][member[row, :, place]]
                    known = self._counts.get((name, module), torch.zeros_like(mine))
                    self._counts[name, module] = known + mine

    def _leave_biases(self) -> None:
        """The bias of a unit is not learned from the loss."""
        for rows in self.keys.values() if self.spec.rule == "smora" else ():
            for tensor in rows.values():
                if tensor.grad is not None:
                    tensor.grad[:, -1] = 0.0

    def _balance(self) -> None:
        """b_t += balance * sign(mean count - count of t)."""
        with torch.no_grad():
            for (name, module), counts in self._counts.items():
                bias = self.keys[name][module][:, -1]
                bias += self.spec.balance * (counts.mean() - counts).sign()


def _router(spec: RouterSpec, adapters: Mapping[str, Adapter]) -> TokenRouter:
    """The rule's router with the parameters of its method."""
    few = list(adapters.values())
    inputs = Inputs(few, [1.0] * len(few), ids=list(adapters))
    plan = METHODS.get(spec.rule)(inputs, **dict(spec.params))
    assert isinstance(plan, Routed)
    assert plan.router is not None
    return plan.router
