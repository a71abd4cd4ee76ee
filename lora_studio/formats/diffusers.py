"""diffusers' names: the component, the module's path, then PEFT's `lora_A.weight`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from lora_studio.adapter import Adapter
from lora_studio.errors import InvalidRequest
from lora_studio.formats.dialect import locate_dotted, spelling
from lora_studio.formats.halves import DType, narrowed, same_rank
from lora_studio.formats.peft import refuse_partial_dora, tensors_of
from lora_studio.formats.saving import save_tensors

NAME = "diffusers"

locate = locate_dotted


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether tensors are named by component, module path and PEFT's `lora_A`."""
    return spelling(keys) == NAME


def save(
    adapter: Adapter, path: Path, metadata: Mapping[str, str], dtype: DType = "float16"
) -> None:
    """Writes a pytorch_lora_weights.safetensors that `load_lora_weights` reads.

    Every scaling is folded and no `lora_adapter_metadata` is written, since releases of PEFT refuse
    each other's fields; then diffusers before 0.42 scales modules of unlike rank wrongly, so that
    all get the largest rank, filled up with zeros.

    Raises:
        InvalidRequest: a language model's adapter, or DoRA in part of a component's modules.
    """
    embeddings = any(module.kind == "embedding" for module in adapter.factors.values())
    if embeddings or adapter.modality != "image":
        raise InvalidRequest("diffusers names layers of pipelines only; download it for PEFT.")
    refuse_partial_dora(adapter)
    tensors: dict[str, np.ndarray] = {}
    for name, module in same_rank(adapter.folded()).factors.items():
        for tail, tensor in tensors_of(narrowed(module, dtype)).items():
            tensors[f"{name}.{tail}"] = np.ascontiguousarray(tensor)
    save_tensors(tensors, path, {"format": "pt", **metadata})
