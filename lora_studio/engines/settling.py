"""Turning a wish into what a pipeline can do: its steps, guidance and sizes, and the sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lora_studio.engines.pictures import Denoising
from lora_studio.errors import InvalidRequest
from lora_studio.families.family import Family


def settled(pipe: Any, family: Family, own: Mapping[str, Any], wish: Denoising) -> Denoising:
    """The wish with the model's own values where it said nothing, sizes rounded down.

    Args:
        own: the model's usual "steps" and "guidance", where it names them.

    Raises:
        InvalidRequest: a negative prompt where none is understood.
    """
    if wish.negative and not family.negative:
        raise InvalidRequest(f"{family.title} knows no negative prompt. Leave it empty.")
    denoiser = getattr(pipe, family.denoiser)
    sample = int(getattr(denoiser.config, "sample_size", 0) or 0)
    unit = _pixels_per_cell(pipe, family)
    side = sample * unit if family.denoiser == "unet" and sample else family.size
    if family.denoiser == "unet":
        unit *= 2 ** (len(denoiser.config.block_out_channels) - 1)

    def fit(pixels: int) -> int:
        return max(unit, pixels // unit * unit) if pixels else side

    guidance = wish.guidance
    if guidance < 0:
        guidance = float(own.get("guidance", family.strength))
    return replace(
        wish,
        steps=wish.steps or int(own.get("steps", family.steps)),
        guidance=guidance,
        width=fit(wish.width),
        height=fit(wish.height),
    )


def grid(pipe: Any, family: Family, wish: Denoising) -> tuple[int, int]:
    """(height, width) of a prediction: in latent pixels, or in tokens where latents are packed."""
    unit = _pixels_per_cell(pipe, family)
    return wish.height // unit, wish.width // unit


def _pixels_per_cell(pipe: Any, family: Family) -> int:
    factor = int(getattr(pipe, "vae_scale_factor", 8))
    return factor if family.denoiser == "unet" else 2 * factor


@contextmanager
def sampler(pipe: Any, family: Family, name: str) -> Iterator[None]:
    """Within, the pipeline samples as asked; without a wish it keeps its own sampler.

    Raises:
        InvalidRequest: the family samples by flow matching.
    """
    if not name:
        yield
        return
    if family.denoiser != "unet":
        raise InvalidRequest(
            f"{family.title} samples by flow matching; leave the sampler as it is."
        )
    import diffusers

    kinds = {
        "dpm++ 2m": diffusers.DPMSolverMultistepScheduler,
        "ddim": diffusers.DDIMScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
    }
    own = pipe.scheduler
    pipe.scheduler = kinds[name].from_config(own.config)
    try:
        yield
    finally:
        pipe.scheduler = own
