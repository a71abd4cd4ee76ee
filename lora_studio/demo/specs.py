"""Which adapters the demo ships, and how each is trained; the table is `data/adapters.yaml`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

from lora_studio.demo.lexicon import read_data
from lora_studio.demo.tasks import TASKS, Task

AdapterSet = Literal["plain", "good-neighbour", "shared-seed", "noise", "copy"]
Targets = Literal["all", "attention", "query-value"]

MODULES: dict[Targets, tuple[str, ...]] = {
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "query-value": ("q_proj", "v_proj"),
}
SHARED_SEED = 42


@dataclass(frozen=True)
class AdapterSpec:
    """How one adapter is made.

    Args:
        name: its folder.
        task, set, contributor: what it learns, which family of recipes, whose it is.
        rank, alpha, rslora, targets: as in PEFT; targets names the adapted linear layers.
        steps, batch, rate, samples: training length, peak rate at scaling 2, unique draws.
        neighbour: weight of the term that keeps the base's answers to other requests.
        seed: seed of A and of the order of the data.
        source: the adapter that a copy or a noise adapter is made from.
    """

    name: str
    task: Task
    set: AdapterSet
    contributor: str
    seed: int
    rank: int = 8
    alpha: int = 16
    rslora: bool = False
    targets: Targets = "all"
    steps: int = 120
    batch: int = 32
    rate: float = 4e-3
    samples: int = 3000
    neighbour: float = 0.0
    source: str = ""

    @property
    def scaling(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)

    @property
    def modules(self) -> tuple[str, ...]:
        return MODULES[self.targets]


def _spec(name: str, task: str, kind: AdapterSet, entry: dict[str, Any]) -> AdapterSpec:
    own: dict[str, Any] = {"seed": zlib.crc32(name.encode()) % 100_000}
    if kind == "good-neighbour":
        own |= {"steps": 150, "neighbour": 1.0}
    if kind == "shared-seed":
        own |= {"seed": SHARED_SEED}
    learns = TASKS.get(task.replace("-", "_"))
    return AdapterSpec(name=name, task=learns, set=kind, **(own | entry))


def adapter_specs() -> list[AdapterSpec]:
    """Every shipped adapter; sources stand before what is made from them."""
    table = read_data("adapters")
    kinds: tuple[AdapterSet, ...] = ("plain", "good-neighbour", "shared-seed")
    specs = [
        _spec(f"{kind}-{task}", task, kind, entry)
        for kind in kinds
        for task, entry in table[kind].items()
    ]
    for name, entry in table["others"].items():
        rest = {key: value for key, value in entry.items() if key not in ("task", "set")}
        specs.append(_spec(name, entry["task"], entry["set"], rest))
    return specs
