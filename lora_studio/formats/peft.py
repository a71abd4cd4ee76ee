"""PEFT's LoRA format: adapter_model.safetensors and adapter_config.json.

A config is data to read five known fields from; patterns in it are matched as literal module names
and never compiled, and what we save is written anew from tensor names and shapes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from lora_studio.adapter import Adapter, Kind, LoraFactors
from lora_studio.errors import InvalidAdapter

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MAX_CONFIG = 256 * 1024
MAX_RANK = 1024

_ROLES = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_magnitude_vector": "magnitude",
}


@dataclass(frozen=True)
class PeftConfig:
    """The fields of adapter_config.json that are read."""

    alpha: float | None = None
    rslora: bool = False
    alpha_pattern: Mapping[str, float] | None = None
    base_model: str = ""


def matches(keys: Iterable[str]) -> bool:
    """Whether tensor names are PEFT LoRA's."""
    return any(f".{role}." in f"{key}." for key in keys for role in _ROLES)


def read_config(text: str) -> PeftConfig:
    """Known fields of an adapter_config.json.

    Raises:
        InvalidAdapter: not JSON, another PEFT type, or values out of range.
    """
    if len(text) > MAX_CONFIG:
        raise InvalidAdapter(f"{CONFIG} is over {MAX_CONFIG // 1024} KiB; a real one is about one.")
    try:
        data = json.loads(text, parse_constant=lambda name: float("nan"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidAdapter(f"{CONFIG} is not valid JSON ({error}).") from error
    if not isinstance(data, dict):
        raise InvalidAdapter(f"{CONFIG} is not a JSON object.")
    kind = str(data.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise InvalidAdapter(
            f"This is a {kind} adapter. Only LORA can be composed by rank; convert it with "
            "peft.convert_to_lora first."
        )
    patterns = data.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise InvalidAdapter("alpha_pattern in adapter_config.json is not an object.")
    return PeftConfig(
        alpha=_alpha(data.get("lora_alpha")),
        rslora=bool(data.get("use_rslora")),
        alpha_pattern={_literal(str(k)): _alpha(v) or 0.0 for k, v in patterns.items()},
        base_model=str(data.get("base_model_name_or_path") or "").replace("\\", "/")[:300],
    )


def read_factors(
    tensors: Iterable[tuple[str, np.ndarray]], config: PeftConfig
) -> dict[str, LoraFactors]:
    """Module name -> factors with the config's scaling.

    Raises:
        InvalidAdapter: tensors that are not LoRA, a factor without its partner, or ranks that
            do not agree; the names are listed.
    """
    parts: dict[str, dict[str, np.ndarray]] = {}
    embeddings: set[str] = set()
    strangers: list[str] = []
    for key, tensor in tensors:
        module, role = _parse_key(key)
        if role is None:
            strangers.append(key)
            continue
        if "embedding" in key.rsplit("lora_", 1)[-1]:
            embeddings.add(module)
        parts.setdefault(module, {})[role] = tensor
    if strangers:
        raise InvalidAdapter(
            f"{len(strangers)} tensors are not LoRA factors, such as {_some(strangers)}. Adapters "
            "that replace whole weights (modules_to_save) cannot be composed; save without them."
        )
    if not parts:
        raise InvalidAdapter("The file holds no LoRA factors (lora_A / lora_B tensors).")
    lonely = [name for name, found in parts.items() if "A" not in found or "B" not in found]
    if lonely:
        raise InvalidAdapter(f"lora_A or lora_B is missing for {_some(lonely)}.")
    return {
        name: _factors(name, found, config, "embedding" if name in embeddings else None)
        for name, found in parts.items()
    }


def save(adapter: Adapter, folder: Path) -> None:
    """Writes adapter_model.safetensors and adapter_config.json; every scaling is folded."""
    adapter = adapter.folded()
    tensors: dict[str, np.ndarray] = {}
    for name, module in adapter.factors.items():
        stem, middle = f"base_model.model.{name}", "lora_"
        a, b = module.A, module.B
        if module.kind == "conv" and module.kernel:
            a, b = a.reshape(module.rank, *module.kernel), b[:, :, None, None]
        if module.kind == "embedding":
            tensors[f"{stem}.{middle}embedding_A"] = np.ascontiguousarray(a)
            tensors[f"{stem}.{middle}embedding_B"] = np.ascontiguousarray(b)
        else:
            tensors[f"{stem}.{middle}A.weight"] = np.ascontiguousarray(a)
            tensors[f"{stem}.{middle}B.weight"] = np.ascontiguousarray(b)
        if module.magnitude is not None:
            tensors[f"{stem}.lora_magnitude_vector"] = np.ascontiguousarray(module.magnitude)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.dumps(_config(adapter), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(config + "\n", encoding="utf-8")


def _config(adapter: Adapter) -> dict[str, Any]:
    ranks = adapter.ranks
    rank = Counter(ranks.values()).most_common(1)[0][0]
    other = {name: r for name, r in ranks.items() if r != rank}
    text_model = all(m.component == "model" for m in adapter.factors.values())
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if text_model else None,
        "base_model_name_or_path": adapter.card.base_model or None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": other,
        "alpha_pattern": other,
        "target_modules": _targets(list(ranks)),
        "use_dora": any(m.magnitude is not None for m in adapter.factors.values()),
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _targets(names: list[str]) -> list[str]:
    """Leaf names ("q_proj") when the adapter covers every layer, else full module names."""
    layers: dict[str, set[str]] = {}
    for name in names:
        stem, _, leaf = name.rpartition(".")
        layers.setdefault(leaf, set()).add("".join(c for c in stem if c.isdigit()))
    spans = list(layers.values())
    full = {str(i) for i in range(len(spans[0]))}
    return sorted(layers) if all(span == full for span in spans) else sorted(names)


def _parse_key(key: str) -> tuple[str, str | None]:
    pieces = key.removeprefix("base_model.model.").split(".")
    for index, piece in enumerate(pieces):
        if piece in _ROLES:
            return ".".join(pieces[:index]), _ROLES[piece]
    return key, None


def _factors(
    name: str, found: Mapping[str, np.ndarray], config: PeftConfig, kind: Kind | None
) -> LoraFactors:
    a, b, kernel = found["A"], found["B"], None
    if a.ndim == 4 and b.ndim == 4 and b.shape[2:] == (1, 1):
        kind, kernel = "conv", a.shape[1:]
        a, b = a.reshape(a.shape[0], -1), b[:, :, 0, 0]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise InvalidAdapter(
            f"The factors of '{name}' have shapes {found['A'].shape} and {found['B'].shape}; "
            "expected (r, d_in) and (d_out, r)."
        )
    rank = a.shape[0]
    if rank > MAX_RANK:
        raise InvalidAdapter(f"'{name}' has rank {rank}; at most {MAX_RANK} is read.")
    alpha = _pattern_alpha(name, config)
    alpha = float(rank) if alpha is None else alpha
    magnitude = found.get("magnitude")
    return LoraFactors(
        A=a,
        B=b,
        scaling=alpha / (sqrt(rank) if config.rslora else rank),
        kind=kind or "linear",
        kernel=kernel,
        magnitude=None if magnitude is None else magnitude.reshape(-1),
    )


def _pattern_alpha(name: str, config: PeftConfig) -> float | None:
    for pattern, alpha in (config.alpha_pattern or {}).items():
        if name == pattern or name.endswith(f".{pattern}"):
            return alpha
    return config.alpha


def _literal(pattern: str) -> str:
    """A pattern of ours or PEFT's as the literal name it stands for; real regexes are refused."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".").replace("\\_", "_")
    if any(c in "*+?()[]{}|\\^$" for c in plain):
        raise InvalidAdapter(
            f"alpha_pattern uses the regular expression '{pattern[:60]}'. Save the adapter with "
            "plain module names in rank_pattern and alpha_pattern."
        )
    return plain


def _alpha(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidAdapter("lora_alpha in adapter_config.json is not a number.")
    if not isfinite(value) or not 0 < value <= 1e4:
        raise InvalidAdapter(f"lora_alpha is {value}; expected a number above 0 and up to 10000.")
    return float(value)


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{n[:80]}'" for n in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
