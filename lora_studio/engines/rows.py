"""What an engine is asked for and what it answers, as plain values without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lora_studio.composition.token_router import TokenRouter
from lora_studio.errors import InvalidRequest

Stop = Literal["eos", "length", "cancelled", "invalid"]


@dataclass(frozen=True)
class RowPlan:
    """Which adapters act on one row.

    Args:
        terms: (adapter id, weight) pairs; none is the base model. The row's update is the sum of
            weight * B_i A_i (one term: selection; weights 1/n: LoraRetriever's mixture).
        fuse: LoraRetriever's fusion instead (arXiv 2402.09997): A = sum of weight * A_i and
            B = sum of weight * B_i, so cross terms appear.
        router: weighs the units of all terms per token and module; not with `fuse`.
    """

    terms: tuple[tuple[str, float], ...] = ()
    fuse: bool = False
    router: TokenRouter | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Adapters the row needs."""
        return tuple(name for name, _ in self.terms)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        temperature: 0 is greedy; above, logits are divided by it. 0..10.
        top_p: smallest set of tokens that reaches this probability. Above 0, up to 1.
        top_k: only the k best tokens; 0 is all.
        max_new_tokens: at least 1.
        repetition_penalty: above 0; 1 is none.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 64
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        limits = {
            "temperature": (0.0 <= self.temperature <= 10.0, "from 0 (greedy) to 10"),
            "top_p": (0.0 < self.top_p <= 1.0, "above 0, up to 1"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            "max_new_tokens": (1 <= self.max_new_tokens <= 100_000, "from 1 to 100000"),
            "repetition_penalty": (0.0 < self.repetition_penalty <= 10.0, "above 0, up to 10"),
        }
        for name, (good, allowed) in limits.items():
            if not good:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be {allowed}.")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sampling:
        """Reads the known fields; raises InvalidRequest where a value is not a number."""
        values: dict[str, Any] = {}
        for spec in fields(cls):
            if data.get(spec.name) is None:
                continue
            kind = type(spec.default)
            try:
                values[spec.name] = kind(data[spec.name])
            except (TypeError, ValueError, OverflowError) as error:
                raise InvalidRequest(
                    f"{spec.name} is {data[spec.name]!r}; it must be a number."
                ) from error
        return cls(**values)


@dataclass(frozen=True)
class Row:
    """One prompt to continue under one plan, with its own seed."""

    id: str
    prompt: str
    plan: RowPlan = RowPlan()
    sampling: Sampling = Sampling()
    seed: int = 0


@dataclass(frozen=True)
class RowUpdate:
    """The whole text of a row so far; `tokens` counts the tokens made."""

    id: str
    text: str
    tokens: int
    done: bool


@dataclass(frozen=True)
class RowOutput:
    """A finished row. `stop` is "eos", "length", "cancelled", or "invalid" when the adapter made
    the model's numbers not finite. `tokens` counts the end token too; `token_ids` holds all."""

    id: str
    text: str
    tokens: int
    stop: Stop
    token_ids: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class GenerateResult:
    """Finished rows in the order asked for, and the speed of the batch as a whole."""

    rows: list[RowOutput]
    seconds: float
    tokens: int
    tokens_per_second: float


@dataclass(frozen=True)
class ScoreRow:
    """A prompt and the answer whose likelihood is wanted: a text, which is followed by the end
    token, or the very token ids of an answer that was generated."""

    id: str
    prompt: str
    target: str | tuple[int, ...]
    plan: RowPlan = RowPlan()


@dataclass(frozen=True)
class RowScore:
    """`exact`: greedy decoding would give the target and end there; `logprob`: mean natural log
    probability per target token, the end token included; `tokens`: how many those are."""

    id: str
    exact: bool
    logprob: float
    tokens: int
