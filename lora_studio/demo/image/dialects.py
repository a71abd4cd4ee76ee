"""Writes an adapter's weights in the file formats found in the wild, in fp16.

One adapter, one dialect: a PEFT folder, a diffusers file, the older attention-processor keys of
diffusers, or kohya's names with what LyCORIS added to them (LoCon, LoHa, LoKr, DoRA).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from lora_studio.demo.image.config import NAME
from lora_studio.demo.image.raw import CONFIG, PEFT_ROOT, TENSORS, ModuleUpdate, Raw

Dialect = Literal["peft", "diffusers", "attention-processor", "kohya"]
Tensors = dict[str, torch.Tensor]
KOHYA_PREFIX = {"unet": "lora_unet", "text_encoder": "lora_te"}
KOHYA_NAMES = {
    "lora_A": "lora_down.weight",
    "lora_B": "lora_up.weight",
    "lora_magnitude_vector": "dora_scale",
}
LEARNED_BY = {"LORA": "networks.lora", "LOHA": "lycoris.kohya", "LOKR": "lycoris.kohya"}


def write_weights(dialect: Dialect, raw: Raw, folder: Path, name: str) -> Path:
    """Writes the weights into `folder`, which must hold no other weights, and returns the file.

    Args:
        dialect: how to write them.
        raw: what PEFT trained.
        folder: made if missing.
        name: the adapter's name; kohya's files carry it.

    Raises:
        ValueError: the dialect cannot say what this adapter has learned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _WRITERS[dialect](raw, folder, name)
    others = [p.name for p in folder.glob("*.safetensors") if p != path]
    if others:
        raise ValueError(f"{folder} holds other weights too: {', '.join(others)}")
    return path


def _write_peft(raw: Raw, folder: Path, name: str) -> Path:
    if set(raw) != {"unet"}:
        raise ValueError(f"{name}: a PEFT folder holds the adapter of one model, here the UNet")
    component = raw["unet"]
    tensors = {
        f"{PEFT_ROOT}{module}.{_peft_name(tensor)}": value
        for module, update in component.modules.items()
        for tensor, value in update.tensors.items()
    }
    config = dict(component.config) | {
        "base_model_name_or_path": NAME,
        "inference_mode": True,
        "auto_mapping": {
            "base_model_class": "UNet2DConditionModel",
            "parent_library": "diffusers.models.unets.unet_2d_condition",
        },
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return _save(tensors, folder / TENSORS, {"format": "pt"})


def _write_diffusers(raw: Raw, folder: Path, name: str) -> Path:
    _only_lora(raw, name, "diffusers' own format")
    tensors = {
        f"{component}.{_diffusers_path(component, module)}.{_peft_name(tensor)}": value
        for component, trained in raw.items()
        for module, update in trained.modules.items()
        for tensor, value in update.tensors.items()
    }
    described = {
        f"{component}.{field}": trained.config[field]
        for component, trained in raw.items()
        for field in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules")
    }
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(described, sort_keys=True)}
    return _save(tensors, folder / "pytorch_lora_weights.safetensors", metadata)


def _write_attention_processor(raw: Raw, folder: Path, name: str) -> Path:
    """Keys as of diffusers 0.1x; they know no alpha, so the scale goes into the up matrix."""
    _only_lora(raw, name, "the attention-processor format")
    tensors: Tensors = {}
    for component, trained in raw.items():
        for module, update in trained.modules.items():
            key = _attention_key(component, module)
            tensors[f"{key}.down.weight"] = update.tensors["lora_A"]
            tensors[f"{key}.up.weight"] = update.tensors["lora_B"] * (update.alpha / update.rank)
    return _save(tensors, folder / "pytorch_lora_weights.safetensors", {"format": "pt"})


def _attention_key(component: str, module: str) -> str:
    if component == "text_encoder":
        return f"text_encoder.{_text_model(module)}.lora_linear_layer"
    attention, _, layer = module.removesuffix(".0").rpartition(".")
    if layer not in ("to_q", "to_k", "to_v", "to_out"):
        raise ValueError(f"attention-processor keys cannot name {module}")
    return f"unet.{attention}.processor.{layer}_lora"


def _write_kohya(raw: Raw, folder: Path, name: str) -> Path:
    tensors: Tensors = {}
    for component, trained in raw.items():
        for module, update in trained.modules.items():
            path = _text_model(module) if component == "text_encoder" else module
            key = f"{KOHYA_PREFIX[component]}_{path.replace('.', '_')}"
            for tensor, value in _kohya_tensors(update).items():
                tensors[f"{key}.{tensor}"] = value
    return _save(tensors, folder / f"{name}.safetensors", _kohya_metadata(raw, name))


def _kohya_tensors(update: ModuleUpdate) -> Tensors:
    tensors = {KOHYA_NAMES.get(name, name): value for name, value in update.tensors.items()}
    if "dora_scale" in tensors:  # LyCORIS: one row an output, as many axes as the weight
        axes = tensors["lora_down.weight"].dim()
        tensors["dora_scale"] = tensors["dora_scale"].reshape(-1, *[1] * (axes - 1))
    alpha = update.alpha
    if {"lokr_w1", "lokr_w2"} <= set(tensors):  # LyCORIS ignores alpha where both are whole
        tensors["lokr_w1"] = tensors["lokr_w1"] * (alpha / update.rank)
        alpha = float(update.rank)
    return tensors | {"alpha": torch.tensor(alpha)}


def _kohya_metadata(raw: Raw, name: str) -> dict[str, str]:
    """The fields that kohya's trainer writes, as far as they are true here."""
    updates = [u for component in raw.values() for u in component.modules.values()]
    ranks, alphas = {u.rank for u in updates}, {u.alpha for u in updates}
    kind = str(raw["unet"].config["peft_type"])
    arguments = {} if kind == "LORA" else {"algo": kind.lower()}
    if any("lora_magnitude_vector" in u.tensors for u in updates):
        arguments["dora_wd"] = "True"
    return {
        "ss_network_module": LEARNED_BY[kind],
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic",
        "ss_network_args": json.dumps(arguments),
        "ss_output_name": name,
        "ss_sd_model_name": NAME,
        "ss_resolution": "(64, 64)",
    }


def _only_lora(raw: Raw, name: str, where: str) -> None:
    for component in raw.values():
        if component.config["peft_type"] != "LORA":
            raise ValueError(
                f"{name}: {where} knows LoRA only, not {component.config['peft_type']}"
            )


def _peft_name(tensor: str) -> str:
    return f"{tensor}.weight" if tensor in ("lora_A", "lora_B") else tensor


def _diffusers_path(component: str, module: str) -> str:
    return _text_model(module) if component == "text_encoder" else module


def _text_model(module: str) -> str:
    """Files name the text encoder's inner model, which newer versions of the class have lost."""
    return module if module.startswith("text_model.") else f"text_model.{module}"


def _save(tensors: Tensors, path: Path, metadata: Mapping[str, Any]) -> Path:
    halves = {key: value.half().contiguous().clone() for key, value in tensors.items()}
    bad = [key for key, value in halves.items() if not value.isfinite().all()]
    if bad:
        raise ValueError(f"{path.name}: {bad[0]} does not fit into fp16")
    save_file(halves, path, dict(metadata))
    return path


_WRITERS: dict[Dialect, Callable[[Raw, Path, str], Path]] = {
    "peft": _write_peft,
    "diffusers": _write_diffusers,
    "attention-processor": _write_attention_processor,
    "kohya": _write_kohya,
}
