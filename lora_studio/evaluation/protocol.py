"""The protocol of LoraRetriever (arXiv 2402.09997) and RAMoLE (2406.16989): which prompts meet
which pool of adapters.

In distribution: the own adapter is in the pool. Out of distribution: it is masked, with its copies.
Mixed stream: prompts of all tasks in one queue, one composition for all. Then the pool grows, and
is made dirty by noise and duplicates. No model and no numbers here: only who may answer what.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.composition.verdict import random_adapter

TUNED_SHARE = 4
"""One prompt in this many is for choosing (the best single adapter); it is never reported on."""
COPY_NOISE = 0.02
"""Size of what tells a near-duplicate from its original, relative to the factors."""
GROWING = (4, 8, 16)


@dataclass(frozen=True)
class Member:
    """An adapter of a pool; its name in the bank is the id of its contents.

    Args:
        task: what it was trained for; "" for noise.
        origin: name of the member it is a copy of; "" if it is none.
    """

    adapter: Adapter
    task: str = ""
    origin: str = ""

    @property
    def name(self) -> str:
        return self.adapter.id

    @property
    def source(self) -> str:
        return self.origin or self.name


@dataclass(frozen=True)
class Case:
    """A prompt.

    Args:
        own: name of the adapter that was trained for it; "" if none was.
        wording: how it is asked ("full", "paraphrased", "terse"); "" where that is not known.
    """

    prompt: str
    reference: str
    task: str
    own: str = ""
    wording: str = ""


@dataclass(frozen=True)
class Scenario:
    """Prompts, and the pool they meet.

    Args:
        cases, tuning: those reported on; those that anything may be chosen by.
        pool: in order.
        masked: whether a prompt's own adapter, and copies of it, may not answer it.
        static: whether one merge of the whole pool answers as well.
    """

    key: str
    title: str
    about: str
    cases: tuple[Case, ...]
    tuning: tuple[Case, ...]
    pool: tuple[Member, ...]
    masked: bool = False
    static: bool = False

    def allowed(self, case: Case) -> tuple[Member, ...]:
        """Who may answer a prompt."""
        if not self.masked:
            return self.pool
        return tuple(member for member in self.pool if member.source != case.own)

    def pools(self) -> Iterator[tuple[tuple[Member, ...], list[int]]]:
        """(who may answer, places of the cases), one for each different pool."""
        by_own: dict[str, list[int]] = {}
        for place, case in enumerate(self.cases):
            by_own.setdefault(case.own if self.masked else "", []).append(place)
        for places in by_own.values():
            yield self.allowed(self.cases[places[0]]), places


def tuned_on(prompt: str) -> bool:
    """Whether a prompt is one to choose by; decided by its own words, so it never changes sides."""
    digest = hashlib.sha256(prompt.encode()).digest()
    return digest[0] % TUNED_SHARE == 0


def divided(cases: Sequence[Case], limit: int, seed: int = 0) -> tuple[list[Case], list[Case]]:
    """(reported, tuning): at most `limit` of a task reported, and a third as many to tune on."""
    reported: list[Case] = []
    tuning: list[Case] = []
    for task in dict.fromkeys(case.task for case in cases):
        mine = [case for case in cases if case.task == task]
        random.Random(f"{seed} {task}").shuffle(mine)
        held = [case for case in mine if tuned_on(case.prompt)]
        reported += [case for case in mine if not tuned_on(case.prompt)][:limit]
        tuning += held[: max(1, limit // 3)]
    return reported, tuning


def noise(members: Sequence[Member], count: int, samples: Sequence[Sequence[str]]) -> list[Member]:
    """Random adapters, each with the modules, ranks and norms of a member.

    Args:
        samples: of each, what its card says it was trained on.
    """
    found = []
    for place in range(count):
        drawn = random_adapter(members[place % len(members)].adapter, place + 1)
        card = replace(drawn.card, title=f"Noise {place + 1}", samples=tuple(samples[place]))
        found.append(Member(replace(drawn, card=card)))
    return found


def duplicates(members: Sequence[Member]) -> list[Member]:
    """A near-duplicate of each: other numbers, almost the same update, the same card."""
    return [
        Member(_shaken(one.adapter, place), one.task, one.source)
        for place, one in enumerate(members)
    ]


def _shaken(adapter: Adapter, seed: int) -> Adapter:
    factors = {}
    for place, (name, module) in enumerate(adapter.modules()):
        rng = np.random.default_rng([seed, place])
        a, b = (
            array + np.float32(COPY_NOISE * np.sqrt(np.square(array).mean()))
            * rng.standard_normal(array.shape, np.float32)
            for array in (module.A, module.B)
        )  # fmt: skip
        factors[name] = replace(module, A=a, B=b)
    card: AdapterCard = replace(adapter.card, title=f"{adapter.card.title} (copy)")
    return Adapter(factors, card)


@dataclass(frozen=True)
class Material:
    """What the protocol is run on.

    Args:
        own: one adapter of each task, in the order in which the pool grows.
        others: more adapters of the same tasks, from other people or trainings: relatives.
        cases, tuning: of single tasks, with `own` set.
        chained: of tasks that need two adapters; task -> cases.
        noise: random adapters. liars: the same, whose cards claim a task.
    """

    own: tuple[Member, ...]
    others: tuple[Member, ...]
    cases: tuple[Case, ...]
    tuning: tuple[Case, ...]
    chained: Mapping[str, tuple[Case, ...]]
    chained_tuning: Mapping[str, tuple[Case, ...]]
    noise: tuple[Member, ...]
    liars: tuple[Member, ...]


def scenarios(material: Material) -> Iterator[Scenario]:
    """All of the protocol, in the order in which it is reported."""
    m = material
    every = (*m.own, *m.others)
    stream = list(m.cases)
    random.Random(0).shuffle(stream)
    yield Scenario("stream", "In distribution, mixed stream",
        "Prompts of all tasks in random order, own adapter in the pool, one composition for all.",
        tuple(stream), m.tuning, m.own, static=True)  # fmt: skip
    related = {member.task for member in m.others}
    for key, title, wanted in (
        ("masked", "Own adapter masked, a relative exists", True),
        ("masked-alone", "Own adapter masked, no relative exists", False),
    ):
        chosen, tuning = (
            tuple(case for case in cases if (case.task in related) == wanted)
            for cases in (m.cases, m.tuning)
        )
        if chosen:
            about = "Every prompt's own adapter and its copies may not answer it."
            yield Scenario(key, title, about, chosen, tuning, every, masked=True)
    yield from _growing(m, every)
    for key, title, joined in (
        ("noise", f"{len(m.noise)} noise adapters join", m.noise),
        ("duplicates", "A near-duplicate of every adapter joins", tuple(duplicates(m.own))),
        ("liars", f"{len(m.liars)} noise adapters join whose cards claim a task", m.liars),
    ):
        about = "The prompts of the mixed stream; the pool is no longer clean."
        yield Scenario(key, title, about, tuple(stream), m.tuning, (*m.own, *joined))
    for task, cases in m.chained.items():
        yield Scenario(f"chained-{task}", f"Chained: {task}",
            "A task none was trained for, and two are needed for; the whole pool is there.",
            cases, m.chained_tuning[task], m.own)  # fmt: skip


def _growing(m: Material, every: tuple[Member, ...]) -> Iterator[Scenario]:
    first = {member.task for member in m.own[: GROWING[0]]}
    cases, tuning = (
        tuple(case for case in some if case.task in first) for some in (m.cases, m.tuning)
    )
    sizes = [size for size in GROWING if size < len(every)]
    for size in (*sizes, len(every)):
        about = f"Prompts of the first {len(first)} tasks, whatever the size of the pool."
        yield Scenario(f"pool-{size}", f"A pool of {size}", about, cases, tuning, every[:size])
