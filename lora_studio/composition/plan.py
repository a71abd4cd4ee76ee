"""What a method returns: one new adapter, a rule of who answers which prompt, or a schedule of who
acts while a picture is denoised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.composition.choice import BLANK, EVENLY, Choice
from lora_studio.composition.schedule import Scheduled
from lora_studio.composition.token_router import TokenRouter

Finding = Literal["text", "activation"]
"""By what a prompt finds its adapters: likeness to their samples, or how loudly they answer it."""


@dataclass(frozen=True)
class Merged:
    """One new adapter.

    Args:
        adapter: scalings folded, card empty but for the base model.
        notes: what a person should know about how it came about (chosen scale, fallbacks).
        shares: module -> (adapters as given, rank): how much of each unit's strength is owed to
            which source, where the method knows; adds up to 1 but for what a guard holds back.
    """

    adapter: Adapter
    notes: tuple[str, ...] = ()
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class RowTerms:
    """Who acts on one row of a batch.

    Without `fuse` the update is sum_i w_i B_i A_i; with it, (sum_i w_i B_i)(sum_i w_i A_i). With a
    `router`, what each unit adds is weighed by it, token by token.
    """

    terms: tuple[tuple[str, float], ...]
    fuse: bool = False
    router: TokenRouter | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a row of a job carries it: terms [[id, weight]], fuse, router."""
        router = self.router.to_dict() if self.router else None
        return {"terms": [list(term) for term in self.terms], "fuse": self.fuse, "router": router}


@dataclass(frozen=True)
class Routed:
    """A rule applied to each prompt at run time.

    Args:
        rule: name of the method whose rule it is: "selection" (the nearest adapter), "mixture"
            (mean of outputs of the top k), "fusion" (mean of their parameters), or a router's.
        weights: adapter id -> strength, multiplied into its share.
        top_k: how many adapters answer one prompt, 1 .. number of adapters.
        notes: what a person should know about how it came about.
        stand_ins: adapter id -> name of the one that answers in its place, at strength 1: prompts
            find their way by all adapters of `weights`, also by those that were merged.
        made: name -> adapter, of those among the stand-ins that were made for this plan.
        router: weighs the chosen adapters per token; without it they share evenly.
        by: how prompts find adapters. By "activation" the chosen share by their signals.
        choice: which of the nearest answer, and how they share; for plans by "text".
    """

    rule: str
    weights: Mapping[str, float]
    top_k: int
    notes: tuple[str, ...] = field(default=())
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, Adapter] = field(default_factory=dict)
    router: TokenRouter | None = None
    by: Finding = "text"
    choice: Choice = EVENLY

    @property
    def answerers(self) -> list[str]:
        """Names of all that may answer, each once."""
        return list(dict.fromkeys(self.stand_ins.get(i, i) for i in self.weights))

    @property
    def needs_retrieval(self) -> bool:
        """Whether prompts are treated differently at all: not if everyone always answers alike."""
        looks = self.by == "activation" or self.choice.looks
        return looks or self.top_k < len(self.answerers)

    def strength(self, source: str) -> float:
        """At which whoever answers for this adapter does so, before it is shared."""
        return 1.0 if source in self.stand_ins else self.weights[source]

    def row(self, similarity: Mapping[str, float]) -> RowTerms:
        """Terms for a prompt; none where no adapter fits it, and the base model answers alone.

        Args:
            similarity: adapter id -> cosine, or signal; missing is the least of all. `BLANK` ->
                cosine to a blank text.
        """
        near = {i: similarity.get(i, -1.0) for i in self.weights}
        if self.by == "activation":
            loud = sorted(near, key=lambda i: (-near[i], i))[: self.top_k]
            total = sum(max(near[i], 0.0) for i in loud)
            shares = {i: max(near[i], 0.0) / total if total else 1.0 / len(loud) for i in loud}
        else:
            shares = self.choice.shares(near, self.top_k, similarity.get(BLANK, -1.0))
        if self.router:
            shares = dict.fromkeys(shares, 1.0)
        terms = tuple((self.stand_ins.get(i, i), self.strength(i) * s) for i, s in shares.items())
        return RowTerms(terms, fuse=self.rule == "fusion", router=self.router)


Plan = Merged | Routed | Scheduled
