"""An adapter as PEFT trained it: per component its state dict and configuration, kept in fp32.

The shipped files are written from this, so that they can be written again without training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

TENSORS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PEFT_ROOT = "base_model.model."
COMPONENTS = ("unet", "text_encoder")


@dataclass(frozen=True)
class ModuleUpdate:
    """What PEFT learned for one module.

    Args:
        tensors: by PEFT's parameter name ("lora_A", "hada_w1_a", "lora_magnitude_vector", ...).
        rank, alpha: after PEFT's rank and alpha patterns; the update is scaled by alpha / rank.
    """

    tensors: Mapping[str, torch.Tensor]
    rank: int
    alpha: float


@dataclass(frozen=True)
class RawComponent:
    """The adapter of one component: module path to update, and PEFT's configuration as JSON."""

    modules: Mapping[str, ModuleUpdate]
    config: Mapping[str, Any]


Raw = Mapping[str, RawComponent]
"""Component name ("unet", "text_encoder") to its adapter."""


def save_raw(folder: Path, component: str, model: Any, adapter_name: str) -> None:
    """Keeps one component's adapter, which PEFT has injected into `model`, in `folder`.

    The result, `folder`/`component`, is an ordinary PEFT folder.
    """
    from peft import get_peft_model_state_dict

    target = folder / component
    target.mkdir(parents=True, exist_ok=True)
    config = model.peft_config[adapter_name]
    state = get_peft_model_state_dict(model, adapter_name=adapter_name)
    tensors = {key: value.detach().float().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, target / TENSORS)
    text = json.dumps(config.to_dict(), indent=1, sort_keys=True, default=_plain)
    (target / CONFIG).write_text(text + "\n", encoding="utf-8")


def load_raw(folder: Path) -> Raw:
    """Reads what `save_raw` kept; components that were not trained are left out."""
    return {
        name: _component(
            load_file(folder / name / TENSORS),
            json.loads((folder / name / CONFIG).read_text(encoding="utf-8")),
        )
        for name in COMPONENTS
        if (folder / name / TENSORS).exists()
    }


def _component(state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> RawComponent:
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.items():
        module, name = key.removeprefix(PEFT_ROOT).removesuffix(".weight").rsplit(".", 1)
        grouped.setdefault(module, {})[name] = tensor
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    whole_alpha = config.get("lora_alpha", config.get("alpha"))
    modules = {
        module: ModuleUpdate(
            tensors,
            int(ranks.get(get_pattern_key(list(ranks), module), config["r"])),
            float(alphas.get(get_pattern_key(list(alphas), module), whole_alpha)),
        )
        for module, tensors in sorted(grouped.items())
    }
    return RawComponent(modules, config)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(getattr(value, "value", value))
