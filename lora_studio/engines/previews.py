"""Pixels of finished pictures, and of unfinished latents: pooled before decoding, so that they cost
little."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from lora_studio.engines.pictures import Denoising
from lora_studio.errors import LoraStudioError
from lora_studio.families.family import Family

SIDE = 32
"""Longest side of the decoded latents."""


def preview(
    pipe: Any, family: Family, latents: torch.Tensor, wish: Denoising
) -> tuple[np.ndarray, ...]:
    """One (height, width, 3) uint8 picture per row; () where the VAE is of another kind.

    Where the sampler keeps its estimate of the finished latents, that is shown instead of the noisy
    latents.
    """
    if type(pipe.vae).__name__ != "AutoencoderKL":
        return ()
    kept = getattr(pipe.scheduler, "model_outputs", None)
    if kept and kept[-1] is not None and kept[-1].shape == latents.shape:
        latents = kept[-1]
    if latents.ndim == 3:
        latents = pipe._unpack_latents(latents, wish.height, wish.width, pipe.vae_scale_factor)
    largest = max(latents.shape[-2:])
    if largest > SIDE:
        height, width = (max(1, side * SIDE // largest) for side in latents.shape[-2:])
        latents = adaptive_avg_pool2d(latents.float(), (height, width))
    config = pipe.vae.config
    shift = getattr(config, "shift_factor", None) or 0.0
    scaled = latents.to(pipe.vae.dtype) / config.scaling_factor + shift
    pictures = pipe.vae.decode(scaled).sample.float().clamp(-1, 1)  # (n, 3, h, w)
    if not torch.isfinite(pictures).all():
        return ()
    values = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return tuple(values)


def whole_pixels(images: Any) -> np.ndarray:
    """(n, height, width, 3) uint8.

    Raises:
        LoraStudioError: numbers that are no picture, as adapters with wild values give.
    """
    values = np.asarray(images, dtype=np.float32)
    if not np.isfinite(values).all():
        raise LoraStudioError(
            "The model's numbers stopped being finite. Lower the weights of the adapters or the "
            "guidance."
        )
    return (values.clip(0.0, 1.0) * 255).round().astype(np.uint8)
