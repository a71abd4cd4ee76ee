"""What an adapter is: named low-rank factors for one base model, plus a card.

Everything else (formats, merges, engines) speaks in these values. Arrays are numpy float32 on the
CPU, so reading, comparing and merging adapters needs no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from lora_studio.lazy_factors import LazyFactors

Kind = Literal["linear", "conv", "embedding"]
Modality = Literal["text", "image"]


@dataclass(frozen=True, eq=False)
class LoraFactors:
    """The update of one module: ``delta = scaling * B @ A``.

    Args:
        A: (r, d_in) float32; for a convolution the filters are flattened to d_in = c_in * kh * kw.
        B: (d_out, r) float32.
        scaling: alpha / r, or alpha / sqrt(r) under rsLoRA; may be negative or zero.
        component: part of the pipeline the module belongs to ("model", "unet", "text_encoder").
        kind: what the module is.
        kernel: (c_in, kh, kw) of a convolution, so that A can be unflattened; None otherwise.
        magnitude: (d_out,) DoRA magnitude, or None.
    """

    A: np.ndarray
    B: np.ndarray
    scaling: float = 1.0
    component: str = "model"
    kind: Kind = "linear"
    kernel: tuple[int, ...] | None = None
    magnitude: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.A.ndim != 2 or self.B.ndim != 2 or self.A.shape[0] != self.B.shape[1]:
            raise ValueError(f"A {self.A.shape} and B {self.B.shape} are not (r, d_in), (d_out, r)")

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    @property
    def d_in(self) -> int:
        return self.A.shape[1]

    @property
    def d_out(self) -> int:
        return self.B.shape[0]

    def folded(self) -> LoraFactors:
        """The same update with scaling 1: sqrt(|scaling|) in each factor, the sign on B."""
        if self.scaling == 1.0:
            return self
        root = np.float32(np.sqrt(abs(self.scaling)))
        sign = np.float32(np.sign(self.scaling))
        return replace(self, A=self.A * root, B=self.B * (root * sign), scaling=1.0)

    def scaled(self, weight: float) -> LoraFactors:
        """The update times `weight`; factors are shared, not copied."""
        return replace(self, scaling=self.scaling * weight)

    def delta(self) -> np.ndarray:
        """(d_out, d_in) dense update. For tests and tiny models; nothing else forms it."""
        return np.float32(self.scaling) * (self.B @ self.A)

    def inner(self, other: LoraFactors) -> float:
        """Frobenius inner product of two updates, through the (r, r') factors only."""
        left = self.B.T.astype(np.float64) @ other.B.astype(np.float64)  # (r, r')
        right = self.A.astype(np.float64) @ other.A.T.astype(np.float64)  # (r, r')
        return float(self.scaling * other.scaling * np.sum(left * right))

    def norm(self) -> float:
        """Frobenius norm of the update."""
        return float(np.sqrt(max(self.inner(self), 0.0)))


@dataclass(frozen=True)
class AdapterCard:
    """What people should know about an adapter. Every field is untrusted text once uploaded.

    Args:
        title, description: one line; one paragraph.
        base_model: name of the base model it was trained on.
        samples: inputs of the kind it was trained for (about 20); they place it in the search.
        trained: how it was trained and what that means for merging.
        source_format: the dialect it was read from ("peft", ...).
        parents: ids of the adapters it was composed from, if any.
        recipe: id of the recipe that made it, if any.
        centroid: mean embedding of samples that were not sent, see `retrieval.centroids`.
    """

    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()
    licence: str = ""
    base_model: str = ""
    contributor: str = ""
    trained: str = ""
    samples: tuple[str, ...] = ()
    source_format: str = ""
    parents: tuple[str, ...] = ()
    recipe: str = ""
    centroid: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; tuples become lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AdapterCard:
        """Reads known fields and ignores the rest."""
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name in known and value is not None:
                is_list = isinstance(known[name].default, tuple)
                values[name] = tuple(str(v) for v in value) if is_list else str(value)
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A named set of LoraFactors for one base model.

    Args:
        factors: module path -> LoraFactors. In a pipeline the path begins with the component
            ("unet.mid_block.resnets.0.conv1") and CLIP text encoders keep their `text_model.`;
            in a language model it is the module's own ("model.layers.0.self_attn.q_proj").
            `LazyFactors` are left as they are: they are made anew each time one is asked for.
        card: its card; `card.base_model` names the base.
    """

    factors: Mapping[str, LoraFactors]
    card: AdapterCard = field(default_factory=AdapterCard)

    def __post_init__(self) -> None:
        if isinstance(self.factors, LazyFactors):
            return
        object.__setattr__(self, "factors", MappingProxyType(dict(sorted(self.factors.items()))))

    @cached_property
    def id(self) -> str:
        """sha256 of the base name and the folded tensors, independent of file layout and dtype
        bookkeeping: the same weights under the same base have the same id."""
        digest = hashlib.sha256(self.card.base_model.encode())
        for name, module in self.modules():
            folded = module.folded()
            header = (
                f"\0{module.component}\0{name}\0{module.kind}\0{module.A.shape}{module.B.shape}"
            )
            digest.update(header.encode())
            for tensor in (folded.A, folded.B, folded.magnitude):
                if tensor is not None:
                    digest.update(np.ascontiguousarray(tensor, dtype="<f4").tobytes())
        return digest.hexdigest()

    def modules(self) -> Iterator[tuple[str, LoraFactors]]:
        """(name, factors) in order of name, one at a time."""
        lazy = self.factors
        yield from lazy.each() if isinstance(lazy, LazyFactors) else lazy.items()

    def collected(self) -> Adapter:
        """The same adapter with all its factors in memory."""
        lazy = isinstance(self.factors, LazyFactors)
        return replace(self, factors=dict(self.modules())) if lazy else self

    @property
    def components(self) -> tuple[str, ...]:
        """Parts of the pipeline it touches, sorted: ("model",) or ("text_encoder", "unet")."""
        return tuple(sorted({module.component for module in self.factors.values()}))

    @property
    def modality(self) -> Modality:
        """ "image" if it touches any part of a pipeline, "text" if only a language model."""
        return "text" if set(self.components) <= {"model"} else "image"

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each module."""
        return {name: module.rank for name, module in self.factors.items()}

    @property
    def max_rank(self) -> int:
        return max(self.ranks.values(), default=0)

    @property
    def parameters(self) -> int:
        """Number of stored values in all factors."""
        return sum(m.A.size + m.B.size for m in self.factors.values())

    def norm(self) -> float:
        """Frobenius norm of all updates together."""
        return float(np.sqrt(sum(m.norm() ** 2 for m in self.factors.values())))

    def inner(self, other: Adapter) -> float:
        """Frobenius inner product over the modules both have."""
        shared = self.factors.keys() & other.factors.keys()
        return sum(self.factors[name].inner(other.factors[name]) for name in sorted(shared))

    def cosine(self, other: Adapter) -> float:
        """Cosine of the two updates taken as one long vector, in [-1, 1]; 0 if either is zero."""
        norms = self.norm() * other.norm()
        return self.inner(other) / norms if norms else 0.0

    def folded(self) -> Adapter:
        """The same adapter with every scaling folded into its factors."""
        return self._changed(LoraFactors.folded)

    def scaled(self, weight: float) -> Adapter:
        """Every update times `weight`."""
        return self._changed(lambda module: module.scaled(weight))

    def _changed(self, change: Callable[[LoraFactors], LoraFactors]) -> Adapter:
        if isinstance(self.factors, LazyFactors):
            return replace(self, factors=self.factors.then(change))
        return replace(self, factors={name: change(m) for name, m in self.factors.items()})
