"""Draws pictures with the demo's pipeline, alone or with an adapter as PEFT trained it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from lora_studio.demo.image.config import GUIDANCE, STEPS
from lora_studio.demo.image.raw import COMPONENTS, TENSORS

BATCH = 25


def load_pipeline(folder: Path) -> Any:
    """The StableDiffusionPipeline of a local folder, in float32 on the CPU."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def attach(pipeline: Any, raw: Path, name: str = "default") -> None:
    """Injects the adapter kept in `raw` (see raw.py), rounded to fp16 as its file is."""
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict

    for component in COMPONENTS:
        if not (raw / component / TENSORS).exists():
            continue
        model = getattr(pipeline, component)
        config = PeftConfig.from_pretrained(str(raw / component))
        inject_adapter_in_model(config, model, name)
        state = load_file(raw / component / TENSORS)
        halves = {key: value.half().float() for key, value in state.items()}
        outcome = set_peft_model_state_dict(model, halves, name)
        if outcome.unexpected_keys:
            raise ValueError(f"{raw.name}: {component} has no {outcome.unexpected_keys[0]}")
        model.eval()


@torch.inference_mode()
def sample(
    pipeline: Any,
    prompts: Sequence[str],
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> NDArray[np.uint8]:
    """(n, 64, 64, 3) one picture a prompt; picture i starts from the noise of seed + i."""
    pictures = []
    for start in range(0, len(prompts), BATCH):
        some = list(prompts[start : start + BATCH])
        noise = [torch.Generator().manual_seed(seed + start + i) for i in range(len(some))]
        drawn = pipeline(
            some,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="np",
        ).images  # (b, 64, 64, 3) in [0, 1]
        pictures.append((drawn * 255).round().astype(np.uint8))
    return np.concatenate(pictures)
