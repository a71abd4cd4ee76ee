"""PEFT's own folder: adapter_model.safetensors with module paths, and adapter_config.json.

What we save is written anew from tensor names and shapes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.errors import InvalidRequest
from lora_studio.formats.config import CONFIG
from lora_studio.formats.dialect import locate_dotted, spelling
from lora_studio.formats.halves import DType, narrowed
from lora_studio.formats.roles import PREFIX
from lora_studio.formats.saving import save_tensors

NAME = "peft"
WEIGHTS = "adapter_model.safetensors"

locate = locate_dotted


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether tensors are named by module path and PEFT's `lora_A`, with no component before."""
    return spelling(keys) == NAME


def save(
    adapter: Adapter,
    folder: Path,
    metadata: Mapping[str, str] | None = None,
    dtype: DType = "float32",
) -> None:
    """Writes adapter_model.safetensors and adapter_config.json; every scaling is folded.

    The names are the module's own, as PeftModel wants them, where the adapter touches one model;
    where it touches several parts of a pipeline, they begin with the part.

    Args:
        metadata: further text fields of the weights' header.

    Raises:
        InvalidRequest: DoRA in part of a component's modules.
    """
    refuse_partial_dora(adapter)
    adapter = adapter.folded()
    names = _own_names(adapter)
    tensors: dict[str, np.ndarray] = {}
    for name, module in adapter.factors.items():
        for tail, tensor in tensors_of(narrowed(module, dtype)).items():
            tensors[f"{PREFIX}{names[name]}.{tail}"] = np.ascontiguousarray(tensor)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(tensors, folder / WEIGHTS, {"format": "pt", **(metadata or {})})
    config = json.dumps(_config(adapter, names), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(config + "\n", encoding="utf-8")


def refuse_partial_dora(adapter: Adapter) -> None:
    """PEFT reads a component's modules as DoRA all or none; kohya's readers decide for each."""
    kinds = {(m.component, m.magnitude is None) for m in adapter.factors.values()}
    mixed = [component for component, plain in kinds if plain and (component, False) in kinds]
    if mixed:
        raise InvalidRequest(
            f"Only part of the modules of {mixed[0]} have DoRA magnitudes, which PEFT and "
            "diffusers cannot say; download it for kohya."
        )


def tensors_of(module: LoraFactors) -> dict[str, np.ndarray]:
    """The tensors of one folded module under PEFT's names, a convolution's in four dimensions."""
    a, b, magnitude = module.A, module.B, module.magnitude
    if module.kind == "conv" and module.kernel:
        a, b = a.reshape(module.rank, *module.kernel), b[:, :, None, None]
        magnitude = None if magnitude is None else magnitude.reshape(1, -1, 1, 1)
    embedding = module.kind == "embedding"
    first, second = (
        ("lora_embedding_A", "lora_embedding_B")
        if embedding
        else ("lora_A.weight", "lora_B.weight")
    )
    found = {first: a, second: b}
    if magnitude is not None:
        found["lora_magnitude_vector"] = magnitude
    return found


def _own_names(adapter: Adapter) -> dict[str, str]:
    components = adapter.components
    single = components[0] if components in (("unet",), ("transformer",), ("text_encoder",)) else ""
    return {name: name.removeprefix(f"{single}.") for name in adapter.factors}


def _config(adapter: Adapter, names: Mapping[str, str]) -> dict[str, Any]:
    ranks = {names[name]: r for name, r in adapter.ranks.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    other = {name: r for name, r in ranks.items() if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if adapter.modality == "text" else None,
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
