"""Trains text encoder and UNet of the base pipeline on plain pictures of the base's objects."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.demo.image import autoencoder
from lora_studio.demo.image.config import GUIDANCE, NAME, NOISE, STEPS, TEXT, UNET, build_folder
from lora_studio.demo.image.pictures import captions, rendered
from lora_studio.demo.image.scene import draw_scene
from lora_studio.demo.image.tokenizer import encode, new_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseSpec:
    """How the base is trained.

    Args:
        pictures, steps, batch: unique pictures, optimiser steps, pictures in each.
        rate: peak learning rate of a cosine that ends at zero.
        empty: share of captions replaced by the empty one, for guidance.
        minutes: the schedule ends early when this much time is gone.
    """

    pictures: int = 12_000
    steps: int = 3625
    batch: int = 32
    rate: float = 1.5e-3
    empty: float = 0.1
    minutes: float = 60.0
    seed: int = 11


def annealed(progress: float, warm: float = 0.05) -> float:
    """Share of the peak rate at `progress` in [0, 1]: linear up, then half a cosine down."""
    if progress < warm:
        return progress / warm
    return 0.5 + 0.5 * float(np.cos(np.pi * min(1.0, (progress - warm) / (1 - warm))))


def noise_scheduler() -> Any:
    """The training noise: SD 1.5's schedule."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**NOISE)


def denoising_loss(unet: Any, noise: Any, latents: Any, states: Any, lean: float = 1.0) -> Any:
    """Mean squared error of the predicted noise.

    latents: (n, 4, 16, 16); states: (n, 24, 64) of the text encoder; lean: time steps are T u^lean
    for uniform u, so that less than 1 leans to noise.
    """
    import torch

    target = torch.randn_like(latents)
    last = noise.config.num_train_timesteps
    steps = (last * torch.rand(len(latents)) ** lean).long().clamp(max=last - 1)
    noised = noise.add_noise(latents, target, steps)
    return (unet(noised, steps, states).sample - target).pow(2).mean()


def new_text_encoder(tokenizer: Any) -> Any:
    """An untrained CLIP text encoder for a tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **TEXT,
    )
    return CLIPTextModel(config)


def scatter_unseen(text_encoder: Any, seen: Iterable[int], seed: int) -> None:
    """Gives every token that training never showed a random direction at the mean norm of the
    others, so that an adapter can tell such words apart without touching the embedding."""
    import torch

    table = text_encoder.get_input_embeddings().weight.data  # (vocabulary, 64)
    known = sorted(set(seen))
    unseen = [i for i in range(len(table)) if i not in set(known)]
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(unseen), table.shape[1], generator=generator)
    norm = table[known].norm(dim=1).mean()
    table[unseen] = rows / rows.norm(dim=1, keepdim=True) * norm


def training_data(vae: Any, tokenizer: Any, spec: BaseSpec) -> tuple[Any, Any]:
    """(n, 4, 16, 16) latents and (n, 24) tokens of the base's pictures."""
    rng = np.random.default_rng(spec.seed)
    scenes = [draw_scene(rng) for _ in range(spec.pictures)]
    pictures = rendered(scenes, build_folder() / "base.npy")
    latents = autoencoder.encode(vae, autoencoder.tensor(pictures))
    return latents, encode(tokenizer, captions(scenes, rng))


def fit(unet: Any, text_encoder: Any, data: tuple[Any, Any], blank: Any, spec: BaseSpec) -> int:
    """Trains both modules together; returns the steps taken."""
    import torch

    latents, tokens = data
    weights = [*unet.parameters(), *text_encoder.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=spec.rate, weight_decay=0.01, fused=True)
    noise, started, mean, step = noise_scheduler(), time.time(), 1.0, 0
    while (progress := max(step / spec.steps, (time.time() - started) / (60 * spec.minutes))) < 1:
        optimiser.param_groups[0]["lr"] = spec.rate * annealed(progress)
        rows = torch.randint(len(latents), (spec.batch,))
        words = torch.where(torch.rand(spec.batch, 1) < spec.empty, blank, tokens[rows])
        loss = denoising_loss(unet, noise, latents[rows], text_encoder(words)[0])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        mean, step = 0.98 * mean + 0.02 * loss.item(), step + 1
        if step % 100 == 0:
            log.info("base: step %d, loss %.4f, %.0f s", step, mean, time.time() - started)
        if step % 500 == 0:
            _keep(unet, text_encoder, build_folder() / "base-so-far.pt")
    return step


def _keep(unet: Any, text_encoder: Any, path: Path) -> None:
    import torch

    torch.save({"unet": unet.state_dict(), "text": text_encoder.state_dict()}, path)


def train(vae_folder: Path, folder: Path, spec: BaseSpec | None = None) -> dict[str, float]:
    """Trains UNet and text encoder over a trained autoencoder; writes the pipeline to `folder`."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    spec, started = spec or BaseSpec(), time.time()
    tokenizer = new_tokenizer()
    vae: Any = AutoencoderKL.from_pretrained(vae_folder)
    data = training_data(vae.eval(), tokenizer, spec)
    torch.manual_seed(spec.seed)
    unet, text_encoder = UNet2DConditionModel(**UNET), new_text_encoder(tokenizer)
    blank = encode(tokenizer, [""])
    steps = fit(unet.train(), text_encoder.train(), data, blank, spec)
    scatter_unseen(text_encoder, data[1].unique().tolist(), spec.seed)
    save_pipeline(folder, vae, text_encoder, tokenizer, unet)
    size = sum(p.numel() for m in (unet, text_encoder, vae) for p in m.parameters())
    seconds = round(time.time() - started)
    return {"steps": steps, "batch": spec.batch, "pictures": spec.pictures,
            "parameters": size, "seconds": seconds}  # fmt: skip


def save_pipeline(folder: Path, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> None:
    """Writes the pipeline in float16, with the sampler, steps and guidance it is meant for."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    for module in (vae, text_encoder, unet):
        module.eval().to(torch.float16)
    sampler: Any = DPMSolverMultistepScheduler(**NOISE, steps_offset=1, timestep_spacing="leading")
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=sampler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    _edit(folder / "model_index.json", lora_studio={"steps": STEPS, "guidance": GUIDANCE})
    _edit(folder / "vae" / "config.json", _name_or_path=NAME)


def _edit(path: Path, **entries: Any) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) | entries
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
