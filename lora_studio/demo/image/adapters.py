"""Trains the image adapters with PEFT's own layers on the pipeline's modules.

Plain adapters see only pictures of what they teach. Good neighbours also see base pictures with
base captions, so that they leave other prompts alone (prior preservation, Ruiz et al. 2023).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.demo.image import autoencoder
from lora_studio.demo.image.base import annealed, denoising_loss, noise_scheduler
from lora_studio.demo.image.pictures import captions, rendered
from lora_studio.demo.image.raw import save_raw
from lora_studio.demo.image.scene import Pair, Scene, draw_pair, draw_scene
from lora_studio.demo.image.specs import TEXT_MODULES, AdapterSpec
from lora_studio.demo.image.tokenizer import encode
from lora_studio.demo.image.words import OBJECTS, PLAIN

log = logging.getLogger(__name__)

BLANK = 0.25
"""Share of pictures that begin as noise alone: what decides whether a style shows at all."""
PAIRED = 0.3
"""Share of pairs among the base's own pictures."""


def own_scenes(spec: AdapterSpec, rng: np.random.Generator) -> list[Scene | Pair]:
    """Pictures of what the adapter teaches: its object in the plain style, some beside an object
    the base knows, or the base's objects in its style. No adapter sees another's word, so every
    pair of them is new."""
    objects = (spec.teaches,) if spec.kind == "content" else OBJECTS
    styles = (spec.teaches,) if spec.kind == "style" else (PLAIN,)

    def one() -> Scene | Pair:
        if rng.random() >= spec.paired:
            return draw_scene(rng, objects, styles)
        sides = (objects, OBJECTS) if rng.random() < 0.5 else (OBJECTS, objects)
        return draw_pair(rng, *sides, styles)

    return [one() for _ in range(spec.pictures)]


def unet_config(spec: AdapterSpec) -> Any:
    """PEFT's configuration for the UNet; convolutions may have a rank and alpha of their own."""
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    shared: dict[str, Any] = {
        "r": spec.rank,
        "target_modules": list(spec.modules),
        "rank_pattern": spec.ranks,
        "alpha_pattern": spec.alphas,
    }
    if spec.learner == "loha":
        return LoHaConfig(alpha=spec.alpha, use_effective_conv2d=False, **shared)
    if spec.learner == "lokr":
        return LoKrConfig(alpha=spec.alpha, use_effective_conv2d=False, **shared)
    return LoraConfig(lora_alpha=spec.alpha, use_dora=spec.learner == "dora", **shared)


def text_config(spec: AdapterSpec) -> Any:
    """PEFT's configuration for the text encoder, with the same tuner."""
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    shared: dict[str, Any] = {"r": spec.rank, "target_modules": list(TEXT_MODULES)}
    if spec.learner == "loha":
        return LoHaConfig(alpha=spec.alpha, **shared)
    if spec.learner == "lokr":
        return LoKrConfig(alpha=spec.alpha, **shared)
    return LoraConfig(lora_alpha=spec.alpha, use_dora=spec.learner == "dora", **shared)


def inject(pipeline: Any, spec: AdapterSpec) -> list[Any]:
    """Adds fresh PEFT layers to the pipeline's modules; returns their parameters."""
    import torch
    from peft import inject_adapter_in_model

    torch.manual_seed(spec.seed)
    for module in (pipeline.unet, pipeline.text_encoder):
        module.requires_grad_(False)
    inject_adapter_in_model(unet_config(spec), pipeline.unet)
    if spec.text:
        inject_adapter_in_model(text_config(spec), pipeline.text_encoder)
    modules = (pipeline.unet, pipeline.text_encoder)
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def training_data(
    pipeline: Any, scenes: Sequence[Scene | Pair], rng: np.random.Generator
) -> tuple[Any, Any]:
    """(n, 4, 16, 16) latents and (n, 24) tokens of scenes."""
    images = autoencoder.tensor(rendered(scenes))
    tokens = encode(pipeline.tokenizer, captions(scenes, rng))
    return autoencoder.encode(pipeline.vae, images), tokens


def shown(pipeline: Any, spec: AdapterSpec) -> tuple[Any, Any]:
    """(n, 4, 16, 16) latents and (n, 24) tokens: `spec.pictures` of its own, then for a good
    neighbour as many of the base's."""
    import torch

    rng = np.random.default_rng(spec.seed)
    own = training_data(pipeline, own_scenes(spec, rng), rng)
    if not spec.neighbour:
        return own
    known = [
        draw_pair(rng) if rng.random() < PAIRED else draw_scene(rng) for _ in range(spec.pictures)
    ]
    usual = training_data(pipeline, known, rng)
    return torch.cat([own[0], usual[0]]), torch.cat([own[1], usual[1]])


def fit(pipeline: Any, weights: list[Any], data: tuple[Any, Any], spec: AdapterSpec) -> float:
    """Trains what `inject` added; returns the last running loss."""
    import torch

    latents, tokens = data
    others = round(spec.batch * spec.base_share)
    optimiser = torch.optim.AdamW(weights, lr=spec.rate, weight_decay=0.0)
    noise, mean = noise_scheduler(), 0.1
    for step in range(spec.steps):
        optimiser.param_groups[0]["lr"] = spec.rate * annealed(step / spec.steps)
        own = torch.randint(spec.pictures, (spec.batch - others,))
        base = spec.pictures + torch.randint(spec.pictures, (others,))
        rows = torch.cat([own, base])
        states = pipeline.text_encoder(tokens[rows].to(pipeline.device))[0]
        shown = latents[rows].to(pipeline.device)
        loss = denoising_loss(pipeline.unet, noise, shown, states, BLANK)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        mean = 0.97 * mean + 0.03 * loss.item()
        if step % 100 == 99:
            log.info("%s: step %d, loss %.4f", spec.name, step + 1, mean)
    return mean


def train(base: Path, spec: AdapterSpec, kept: Path, device: str = "cpu") -> dict[str, float]:
    """Trains one adapter on the pipeline in `base`, keeps it as `raw.py` says in `kept`, and says
    what it took."""
    from lora_studio.demo.image.sampling import load_pipeline

    started = time.time()
    pipeline = load_pipeline(base).to(device)
    weights = inject(pipeline, spec)
    data = shown(pipeline, spec)
    loss = fit(pipeline, weights, data, spec)
    save_raw(kept, "unet", pipeline.unet, "default")
    if spec.text:
        save_raw(kept, "text_encoder", pipeline.text_encoder, "default")
    return {
        "steps": spec.steps,
        "batch": spec.batch,
        "pictures": spec.pictures,
        "base_share": spec.base_share,
        "loss": round(loss, 5),
        "parameters": sum(p.numel() for p in weights),
        "seconds": round(time.time() - started),
    }
