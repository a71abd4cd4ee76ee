"""How large and how odd an uploaded file may be before it is refused; an operator may set each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from typing import Any

PREFIX = "LORA_STUDIO_LIMIT_"


@dataclass(frozen=True)
class Limits:
    """Caps on one file.

    Args:
        header_bytes, tensors, name_bytes, dims, dim: of a safetensors header: its length, how many
            tensors, the length of a name, dimensions of a tensor, size of one dimension.
        metadata_keys, metadata_bytes: of the header's text fields.
        values: numbers in all factors together, once everything is LoRA; 2^29 are 2 GiB.
        rank: of one module, as the file has it.
        alpha: largest alpha.
        magnitude: largest absolute value of any tensor.
        update_norm: largest Frobenius norm of one module's update; beyond it float16 overflows.
        zip_entries, zip_ratio: files in a zip; how many times larger than packed one may be.
        config_bytes, config_depth: of adapter_config.json.
        seconds, memory: processor seconds, and bytes of memory beside eight times the file's size,
            that reading one file may take.
        pickles: whether PyTorch pickles are read (in the confined child, tensors only).
    """

    header_bytes: int = 8 << 20
    tensors: int = 65_536
    name_bytes: int = 256
    dims: int = 5
    dim: int = 1 << 20
    metadata_keys: int = 4096
    metadata_bytes: int = 4 << 20
    values: int = 1 << 29
    rank: int = 1024
    alpha: float = 1e5
    magnitude: float = 1e3
    update_norm: float = 6e4
    zip_entries: int = 64
    zip_ratio: float = 20.0
    config_bytes: int = 256 << 10
    config_depth: int = 16
    seconds: int = 60
    memory: int = 2 << 30
    pickles: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Limits:
        """Reads LORA_STUDIO_LIMIT_TENSORS and so on; what is unset keeps its default."""
        given: dict[str, Any] = {}
        for field in fields(cls):
            text = env.get(f"{PREFIX}{field.name.upper()}", "").strip()
            if text:
                given[field.name] = _value(text, type(field.default))
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limits:
        """What `to_dict` gave."""
        return cls(**data)


def _value(text: str, kind: type) -> Any:
    if kind is bool:
        return text.lower() in ("1", "true", "yes", "on")
    return int(float(text)) if kind is int else float(text)


OURS = Limits(
    header_bytes=1 << 30,
    tensors=1 << 24,
    name_bytes=1 << 12,
    dim=1 << 40,
    metadata_keys=1 << 20,
    metadata_bytes=1 << 30,
    values=1 << 40,
    rank=1 << 20,
    alpha=float("inf"),
    magnitude=float("inf"),
    update_norm=float("inf"),
)
"""For files that this studio wrote; what it was given passed narrower caps before."""

_CURRENT: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - frozen


def limits() -> Limits:
    """The caps that hold now."""
    return _CURRENT.get()


@contextmanager
def limited(to: Limits) -> Iterator[None]:
    """Within, `to` are the caps."""
    token = _CURRENT.set(to)
    try:
        yield
    finally:
        _CURRENT.reset(token)
