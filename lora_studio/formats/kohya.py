"""kohya's names, which A1111, ComfyUI and diffusers all read: the component's prefix, the path
with underscores, then `lora_down`, `lora_up`, `alpha`; LyCORIS names its factors the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.errors import InvalidRequest
from lora_studio.formats.dialect import Place, spelling
from lora_studio.formats.halves import DType, narrowed
from lora_studio.formats.kohya_names import underscored
from lora_studio.formats.resolving import Named, resolve
from lora_studio.formats.roles import split
from lora_studio.formats.saving import save_tensors
from lora_studio.formats.widths import unet_family

NAME = "kohya"

_PREFIXES = {
    "lora_unet_unet_": "",
    "lora_unet__": "",
    "lora_unet_": "",
    "lora_te_text_encoder_": "text_encoder",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_text_encoder_2_": "text_encoder_2",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_transformer_": "",
    "lycoris_": "",
}
"""Prefix -> the text encoder it is of, "" for the model that makes the pictures."""


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether any tensor's name begins with one of kohya's prefixes."""
    return spelling(keys) == NAME


def locate(keys: Collection[str]) -> dict[str, Place | None]:
    """Places of tensors; a name that no table has and that is not made of known words has none."""
    return resolve({key: _named(key) for key in keys})


def save(
    adapter: Adapter, path: Path, metadata: Mapping[str, str], dtype: DType = "float16"
) -> None:
    """Writes one file; every scaling is folded, and a DoRA's magnitude is its `dora_scale`.

    `alpha` is the commonest rank in every module, and factors of another rank are scaled for it:
    diffusers up to 0.42 takes one alpha for all modules of a file whose alphas differ.

    Raises:
        InvalidRequest: a language model's adapter, or a transformer's, which kohya does not name.
    """
    known = {"unet", "text_encoder", "text_encoder_2"}
    embeddings = any(module.kind == "embedding" for module in adapter.factors.values())
    if embeddings or not set(adapter.components) <= known:
        raise InvalidRequest(
            "kohya's names are for layers of UNets and their text encoders; download this adapter "
            f"{'for PEFT' if adapter.modality == 'text' else 'for diffusers'}."
        )
    alpha = Counter(adapter.ranks.values()).most_common(1)[0][0]
    prefixes = _prefixes(adapter, metadata)
    tensors: dict[str, np.ndarray] = {}
    for name, module in adapter.folded().factors.items():
        stem = prefixes[module.component] + underscored(name.split(".", 1)[1])
        for tail, tensor in _tensors(module, alpha, dtype).items():
            tensors[f"{stem}.{tail}"] = np.require(tensor, requirements="C")
    save_tensors(tensors, path, {"format": "pt", **metadata})


def _tensors(module: LoraFactors, alpha: int, dtype: DType) -> dict[str, np.ndarray]:
    module = narrowed(replace(module, scaling=module.rank / alpha).folded(), dtype)
    down, up, shape = module.A, module.B, (-1, 1)
    if module.kind == "conv" and module.kernel:
        down, up = down.reshape(module.rank, *module.kernel), up[:, :, None, None]
        shape = (-1, 1, 1, 1)
    found = {"lora_down.weight": down, "lora_up.weight": up}
    found["alpha"] = np.array(alpha, dtype=np.float32)
    if module.magnitude is not None:
        found["dora_scale"] = module.magnitude.reshape(shape)
    return found


def _prefixes(adapter: Adapter, metadata: Mapping[str, str]) -> dict[str, str]:
    """Component -> prefix; the first text encoder is `te1` where the model has two."""
    xl = metadata.get("ss_base_model_version", "").startswith("sdxl")
    two = xl or "text_encoder_2" in adapter.components or unet_family(adapter.factors) == "sdxl"
    first = "lora_te1_" if two else "lora_te_"
    return {"unet": "lora_unet_", "text_encoder": first, "text_encoder_2": "lora_te2_"}


def _named(key: str) -> Named | None:
    slot = split(key)
    prefix = next((start for start in _PREFIXES if key.startswith(start)), None)
    if slot is None or prefix is None:
        return None
    return Named(_PREFIXES[prefix], slot.path.removeprefix(prefix), slot.path, slot.role)
