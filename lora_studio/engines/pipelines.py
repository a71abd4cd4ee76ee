"""Loading a diffusers pipeline of a known family, and naming its modules as adapters do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora_studio.engines.loading import explain, hub_is_away
from lora_studio.errors import InvalidRequest, LoraStudioError, NotFound
from lora_studio.families import resolve_base
from lora_studio.families.family import FAMILIES, Family, family_of_pipeline
from lora_studio.settings import DEMO_IMAGE_BASE

log = logging.getLogger(__name__)

INDEX = "model_index.json"
HALF = {"unet": torch.float16, "transformer": torch.bfloat16}
"""Number type on a GPU; on a CPU everything runs in float32."""


def load_pipeline(base: str, device: torch.device) -> tuple[Any, Family, dict[str, Any]]:
    """A diffusers pipeline on `device`, in eval mode, its family, and what model_index.json says
    under "lora_studio" (usual steps and guidance). Code from a repository is never run and only
    safetensors weights are read.

    Raises:
        LoraStudioError: it cannot be loaded, or its family is not known; says what to do.
    """
    from diffusers import DiffusionPipeline

    where = resolve_base(base)
    if base == DEMO_IMAGE_BASE and not (Path(where) / INDEX).is_file():
        raise NotFound(f"The embedded image model is missing from {where}. Run `make demo`.")
    local = Path(where).is_dir() or hub_is_away()
    try:
        index: Any = DiffusionPipeline.load_config(where, local_files_only=local)
        family = _family(base, index)
        dtype = torch.float32 if device.type == "cpu" else HALF[family.denoiser]
        pipe: Any = DiffusionPipeline.from_pretrained(
            where, dtype=dtype, use_safetensors=True, local_files_only=local
        )
        pipe = pipe.to(device)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise LoraStudioError(
            f"'{base}' does not fit in the memory of {device}. Choose a smaller model, or a "
            "device with more memory."
        ) from error
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        log.exception("loading pipeline %s", base)
        raise LoraStudioError(explain(base, error, "diffusers pipeline")) from error
    context = getattr(getattr(pipe, "unet", None), "config", {}).get("cross_attention_dim", 768)
    pipe.set_progress_bar_config(disable=True)
    for name in (family.denoiser, *family.text_encoders, "vae"):
        component = getattr(pipe, name, None)
        if component is not None:
            component.eval().requires_grad_(False)
    own = index.get("lora_studio")
    found = family_of_pipeline(type(pipe).__name__, context) or family
    return pipe, found, dict(own) if isinstance(own, dict) else {}


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a diffusers pipeline."""
    return (folder / INDEX).is_file()


def named_modules(pipe: Any, family: Family) -> dict[str, nn.Module]:
    """Every module of denoiser and text encoders under its path in the pipeline.

    Text encoders of CLIP are also known under `text_model.`, where older stacks had their layers.
    """
    found: dict[str, nn.Module] = {}
    for component in (family.denoiser, *family.text_encoders):
        root = getattr(pipe, component, None)
        if not isinstance(root, nn.Module):
            continue
        for name, module in root.named_modules():
            found[f"{component}.{name}"] = module
            if component != family.denoiser and not hasattr(root, "text_model"):
                found[f"{component}.text_model.{name}"] = module
    return found


def _family(base: str, index: Mapping[str, Any]) -> Family:
    name = str(index.get("_class_name", ""))
    family = family_of_pipeline(name)
    if family is None:
        known = ", ".join(sorted({p for f in FAMILIES for p in f.pipelines}))
        raise InvalidRequest(
            f"'{base}' is a {name or 'pipeline without a name'}, which is not supported. Choose "
            f"one of: {known}."
        )
    return family
