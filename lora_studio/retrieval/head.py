"""A trained retriever: a linear map over a frozen embedder, applied to queries and places alike.

    h(v) = (v + U v) / |v + U v|,   U (dim, dim), zero where nothing was learned.

Stored vectors stay those of the embedder, and a head is applied when they are searched: it can be
changed without embedding anything again, and serves centroids that came without samples. The map is
linear before it is normalised, so h(mean of v_i) points where the mean of the v_i + U v_i does; it
is not the mean of the h(v_i), in which samples that U shortens would count as much as others.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lora_studio.errors import InvalidRequest
from lora_studio.fitted import own_path
from lora_studio.retrieval.centroids import MAX_DIM
from lora_studio.retrieval.retriever import unit_rows
from lora_studio.settings import AUTO, NO_HEAD, SHIPPED, Settings, assets_dir

log = logging.getLogger(__name__)

_UPDATE = "update"


@dataclass(frozen=True, eq=False)
class Head:
    """What was learned on top of one embedder.

    Args:
        embedder: id of the embedder whose vectors it takes.
        update: U above, (dim, dim); kept in float16, as in the file.
        facts: how it was trained and what it was worth.
    """

    embedder: str
    update: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        update = np.ascontiguousarray(self.update, dtype="<f2")
        if update.ndim != 2 or len(set(update.shape)) != 1 or not np.isfinite(update).all():
            raise InvalidRequest(f"A head is a finite square matrix, not {update.shape}.")
        object.__setattr__(self, "update", update)

    @property
    def dim(self) -> int:
        """Length of the vectors it takes and gives."""
        return len(self.update)

    @cached_property
    def id(self) -> str:
        """sha256 of the embedder's id and the matrix; similarities of different heads are not
        compared."""
        digest = hashlib.sha256(f"{self.embedder}\0{self.dim}\0".encode())
        digest.update(self.update.tobytes())
        return digest.hexdigest()

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) float32 unit rows of `vectors` (n, dim), of any length but zero."""
        rows = unit_rows(vectors)  # (n, dim)
        if rows.shape[1] != self.dim:
            raise InvalidRequest(
                f"The retriever head takes vectors of length {self.dim} ({self.embedder}), not "
                f"{rows.shape[1]}. Train one for this embedder: `lora-studio train-retriever`."
            )
        return unit_rows(rows + rows @ self._transposed)

    @cached_property
    def _transposed(self) -> np.ndarray:
        return self.update.T.astype(np.float32)


def shipped_head() -> Path:
    """The head that comes with the demo, trained on two fifths of its tasks; used where asked for,
    since what it gains on other tasks is little (docs/routing.md)."""
    return assets_dir() / "demo" / "text" / "retriever.safetensors"


def head_path(embedder: str, data_dir: Path) -> Path:
    """Where a studio's own head for an embedder lies."""
    return own_path("retriever", embedder, data_dir)


def head_for(settings: Settings) -> Head | None:
    """The head to search with, or None for the bare embedder.

    `settings.retriever` is "auto" (the studio's own head for this embedder, if it has trained one),
    "none", "demo" (the shipped one) or a file.

    Raises:
        InvalidRequest: the file is no head, or one for another embedder.
    """
    chosen = settings.retriever
    if chosen == NO_HEAD:
        return None
    path = shipped_head() if chosen == SHIPPED else Path(chosen).expanduser()
    if chosen == AUTO:
        path = head_path(settings.embedder, settings.data_dir)
        if not path.is_file():
            return None
    head = load_head(path)
    if head.embedder != settings.embedder:
        raise InvalidRequest(
            f"{path.name} is a head for {head.embedder}; this studio embeds with "
            f"{settings.embedder}. Set LORA_STUDIO_RETRIEVER to another, or to none."
        )
    return head


def usable_head(settings: Settings) -> Head | None:
    """`head_for`, but a studio whose own head is damaged starts without it and says so; a file that
    was asked for by name is never passed over."""
    try:
        return head_for(settings)
    except InvalidRequest as error:
        if settings.retriever != AUTO:
            raise
        log.warning("searching without a retriever head: %s", error)
        return None


def save_head(head: Head, path: Path) -> None:
    """Writes a safetensors file: U in float16, embedder and facts in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"embedder": head.embedder, "facts": json.dumps(dict(head.facts), sort_keys=True)}
    save_file({_UPDATE: head.update}, path, header)


def load_head(path: Path) -> Head:
    """Reads what `save_head` wrote.

    Raises:
        InvalidRequest: the file is no head.
    """
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            shape = file.get_slice(_UPDATE).get_shape()
            if len(shape) != 2 or max(shape) > MAX_DIM:
                raise ValueError(f"its matrix is {shape}")
            facts = json.loads(header.get("facts", "{}"))
            return Head(header["embedder"], file.get_tensor(_UPDATE), facts)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InvalidRequest(f"{path.name} is no retriever head: {error}") from error
