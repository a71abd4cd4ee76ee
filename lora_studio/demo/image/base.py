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
from lora_studio.demo.image.scene import Pair, Scene, draw_pair, draw_scene
from lora_studio.demo.image.tokenizer import encode, new_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """A stretch of training: optimiser steps, pictures in each, peak rate of a cosine that ends at
    zero, and the share of pictures that begin as noise alone (`denoising_loss`)."""

    steps: int
    batch: int
    rate: float
    blank: float = 0.0


@dataclass(frozen=True)
class BaseSpec:
    """How the base is trained.

    Args:
        singles, pairs: unique pictures of one object and of two.
        first: phase on single objects, all time steps alike.
        second: phase on everything, with pictures that begin as noise alone.
        empty: share of captions replaced by the empty one, for guidance.
    """

    singles: int = 12_000
    pairs: int = 6_000
    first: Phase = Phase(3625, 32, 1.5e-3)
    second: Phase = Phase(1500, 32, 1.2e-3, blank=0.25)
    empty: float = 0.1
    seed: int = 11


BLANK_FROM, BLANK_WEIGHT, LEAN = 0.9, 8.0, 0.8
"""Time steps, in shares of all, from which a picture may begin as noise alone; how much more its
loss counts; and the other time steps of such a phase are T u^0.8, somewhat more of the noisy."""


def annealed(progress: float, warm: float = 0.05) -> float:
    """Share of the peak rate at `progress` in [0, 1]: linear up, then half a cosine down."""
    if progress < warm:
        return progress / warm
    return 0.5 + 0.5 * float(np.cos(np.pi * min(1.0, (progress - warm) / (1 - warm))))


def noise_scheduler() -> Any:
    """The training noise: SD 1.5's schedule."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**NOISE)


def denoising_loss(unet: Any, noise: Any, latents: Any, states: Any, blank: float = 0.0) -> Any:
    """Mean squared error of the predicted noise.

    A sampler begins with noise in which there is no picture, while training adds noise to pictures,
    of which a trace is left even at the last step: enough to see where the object is, so that the
    words need not say it (Lin et al. 2023, arXiv 2305.08891). So a share `blank` of rows is given
    noise alone at the last tenth of the steps, and their target is the noise that would lead from
    it to the picture. What only the words can tell, a place or a style, is learned there.

    latents: (n, 4, 16, 16); states: (n, 24, 64) of the text encoder.
    """
    import torch

    drawn, last = torch.randn_like(latents), noise.config.num_train_timesteps
    bare = torch.rand(len(latents)) < blank
    spread = torch.rand(len(latents))
    usual, late = spread ** (LEAN if blank else 1.0), BLANK_FROM + (1 - BLANK_FROM) * spread
    steps = (last * torch.where(bare, late, usual)).long().clamp(max=last - 1)
    bare = bare.to(latents.device)[:, None, None, None]
    steps = steps.to(latents.device)
    kept = noise.alphas_cumprod.to(latents.device)[steps][:, None, None, None]
    noised = torch.where(bare, drawn, kept.sqrt() * latents + (1 - kept).sqrt() * drawn)
    target = (noised - kept.sqrt() * latents) / (1 - kept).sqrt()
    error = (unet(noised, steps, states).sample - target).pow(2)
    return (error * torch.where(bare, BLANK_WEIGHT, 1.0)).mean()


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
    """(n, 4, 16, 16) latents and (n, 24) tokens of the base's pictures, single objects first."""
    rng = np.random.default_rng(spec.seed)
    scenes: list[Scene | Pair] = [draw_scene(rng) for _ in range(spec.singles)]
    scenes += [draw_pair(rng) for _ in range(spec.pairs)]
    pictures = rendered(scenes, build_folder() / "base.npy")
    latents = autoencoder.encode(vae, autoencoder.tensor(pictures))
    return latents, encode(tokenizer, captions(scenes, rng))


def fit(
    unet: Any, text_encoder: Any, data: tuple[Any, Any], empty: Any, share: float, phase: Phase
) -> None:
    """Trains both modules together for one phase.

    Args:
        empty: tokens of the empty caption, which takes the place of a `share` of the captions.
    """
    import torch

    latents, tokens = data
    weights = [*unet.parameters(), *text_encoder.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=phase.rate, weight_decay=0.01, fused=True)
    noise, started, mean = noise_scheduler(), time.time(), 1.0
    for step in range(phase.steps):
        optimiser.param_groups[0]["lr"] = phase.rate * annealed(step / phase.steps)
        rows = torch.randint(len(latents), (phase.batch,))
        words = torch.where(torch.rand(phase.batch, 1) < share, empty, tokens[rows])
        states = text_encoder(words.to(unet.device))[0]
        loss = denoising_loss(unet, noise, latents[rows].to(unet.device), states, phase.blank)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        mean = 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 99:
            log.info("base: step %d, loss %.4f, %.0f s", step + 1, mean, time.time() - started)
        if step % 500 == 499:
            _keep(unet, text_encoder, build_folder() / "base-so-far.pt")


def _keep(unet: Any, text_encoder: Any, path: Path) -> None:
    import torch

    torch.save({"unet": unet.state_dict(), "text": text_encoder.state_dict()}, path)


def train(
    vae_folder: Path, folder: Path, spec: BaseSpec | None = None, device: str = "cpu"
) -> dict[str, float]:
    """Trains UNet and text encoder over a trained autoencoder; writes the pipeline to `folder`."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    spec, started = spec or BaseSpec(), time.time()
    tokenizer = new_tokenizer()
    vae: Any = AutoencoderKL.from_pretrained(vae_folder)
    data = training_data(vae.eval(), tokenizer, spec)
    torch.manual_seed(spec.seed)
    unet: Any = UNet2DConditionModel(**UNET)
    unet, text_encoder = unet.to(device), new_text_encoder(tokenizer).to(device)
    latents, tokens = data
    one = (latents[: spec.singles], tokens[: spec.singles])
    empty = encode(tokenizer, [""])
    for phase, shown in ((spec.first, one), (spec.second, data)):
        fit(unet.train(), text_encoder.train(), shown, empty, spec.empty, phase)
    text_encoder, unet = text_encoder.cpu(), unet.cpu()
    scatter_unseen(text_encoder, data[1].unique().tolist(), spec.seed)
    save_pipeline(folder, vae, text_encoder, tokenizer, unet)
    size = sum(p.numel() for m in (unet, text_encoder, vae) for p in m.parameters())
    seconds = round(time.time() - started)
    return {"steps": spec.first.steps + spec.second.steps, "batch": spec.first.batch,
            "pictures": spec.singles + spec.pairs, "parameters": size,
            "seconds": seconds}  # fmt: skip


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
