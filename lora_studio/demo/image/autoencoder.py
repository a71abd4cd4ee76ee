"""Trains the pipeline's AutoencoderKL on pictures of the whole world, held-back words included:
it must be able to show what adapters teach, as the one of a real base model is."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_studio.demo.image.config import VAE, build_folder
from lora_studio.demo.image.pictures import everything, rendered

log = logging.getLogger(__name__)

PICTURES, STEPS, BATCH, RATE = 8000, 2600, 16, 2.5e-3
KL, EDGES = 5e-7, 1.0
LOG_VARIANCE = -5.0
"""Where the latents' log variance starts: at the usual 0 the noise drowns them, and channels that
the decoder has learned to ignore never come back."""


def tensor(pictures: NDArray[np.uint8]) -> Any:
    """(n, 3, 64, 64) float32 in [-1, 1] from (n, 64, 64, 3) bytes."""
    import torch

    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def _edges(images: Any) -> tuple[Any, Any]:
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def _loss(vae: Any, images: Any) -> tuple[Any, Any]:
    """Reconstruction (L1, L2 and L1 of differences between neighbours) plus a little KL."""
    posterior = vae.encode(images).latent_dist
    out = vae.decode(posterior.sample()).sample
    error = out - images
    sharp = sum((a - b).abs().mean() for a, b in zip(_edges(out), _edges(images), strict=True))
    loss = error.abs().mean() + error.pow(2).mean() + EDGES * sharp
    return loss + KL * posterior.kl().mean(), error.pow(2).mean()


def train(
    folder: Path,
    seed: int = 3,
    steps: int = STEPS,
    start: Path | None = None,
    device: str = "cpu",
) -> dict[str, float]:
    """Trains and writes the autoencoder to `folder`, and says what it took; `start` names one to
    go on from."""
    import torch
    from diffusers import AutoencoderKL

    started = time.time()
    scenes = everything(np.random.default_rng(seed), PICTURES)
    images = tensor(rendered(scenes, build_folder() / f"vae-{seed}.npy"))
    torch.manual_seed(seed)
    vae: Any = AutoencoderKL.from_pretrained(start) if start else quiet(AutoencoderKL(**VAE))
    vae.train().to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.1)
    mean = 0.0
    for step in range(steps):
        rows = torch.randint(PICTURES, (BATCH,))
        loss, squared = _loss(vae, images[rows].to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        mean = squared.item() if step == 0 else 0.98 * mean + 0.02 * squared.item()
        if step % 50 == 0:
            log.info("vae: step %d, MSE %.5f, %.0f s", step, mean, time.time() - started)
        if step % 500 == 499:
            vae.save_pretrained(build_folder() / "vae-so-far")
    scale_latents(vae.eval(), images[:1000])
    vae.save_pretrained(folder)
    return {"steps": steps, "batch": BATCH, "seconds": round(time.time() - started)}


def quiet(vae: Any) -> Any:
    """The autoencoder with a small constant variance to start from."""
    import torch

    half = vae.config.latent_channels
    with torch.no_grad():
        vae.quant_conv.weight[half:] = 0
        vae.quant_conv.bias[half:] = LOG_VARIANCE
    return vae


def scale_latents(vae: Any, images: Any) -> None:
    """Sets the scaling factor to one over the standard deviation of the latents."""
    latents = encode(vae, images, scaled=False)
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))


def encode(vae: Any, images: Any, scaled: bool = True) -> Any:
    """(n, 4, 16, 16) mean latents of (n, 3, 64, 64) images."""
    import torch

    factor = vae.config.scaling_factor if scaled else 1.0
    with torch.no_grad():
        some = images.split(64)
        parts = [vae.encode(part.to(vae.device)).latent_dist.mode().cpu() for part in some]
    return torch.cat(parts) * factor


def decode(vae: Any, latents: Any) -> NDArray[np.uint8]:
    """(n, 64, 64, 3) bytes of scaled latents."""
    import torch

    with torch.no_grad():
        parts = [vae.decode(some / vae.config.scaling_factor).sample for some in latents.split(64)]
    images = torch.cat(parts).clamp(-1, 1)
    return ((images + 1) * 127.5 + 0.5).byte().permute(0, 2, 3, 1).numpy()
