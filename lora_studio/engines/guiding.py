"""Moves latents between two steps, as the plans' guides say, by gradients through the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lora_studio.composition.schedule import Scheduled
from lora_studio.engines.attention import AttentionRules
from lora_studio.engines.denoising import Conductor


def guided(
    pipe: Any,
    conductor: Conductor,
    rules: AttentionRules,
    plans: Sequence[Scheduled],
    latents: Tensor,
    step: int,
    steps: int,
) -> Tensor:
    """The latents before `step`, each picture's moved down its guide's gradient: z - s g / rms(g).

    latents: (pictures, channels, height, width), outside inference mode.
    """
    strengths = [plan.guide.strength(step, steps) if plan.guide else 0.0 for plan in plans]
    rows = [row for row, strength in enumerate(strengths) if strength]
    if not rows or step >= steps:
        return latents
    timestep = pipe.scheduler.timesteps[step]
    with torch.enable_grad():
        moved = latents.detach().clone().requires_grad_()
        conductor.watch(pipe.scheduler.scale_model_input(moved, timestep), timestep, rows)
        losses = [plan.guide.loss(rules.maps(row)) for row in rows if (plan := plans[row]).guide]
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), moved)
    size = gradient.flatten(1).square().mean(1).sqrt().clamp_min(1e-12)
    move = torch.tensor(strengths, device=latents.device, dtype=latents.dtype) / size
    return latents - move[:, None, None, None] * gradient
