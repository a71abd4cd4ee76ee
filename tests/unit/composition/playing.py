"""Small adapters of an image model, and a linear stand-in for its denoiser to play plans on."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition.schedule import Scheduled, StepView

CONTENT = "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
STYLE = "unet.up_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q"
CONV = "unet.down_blocks.0.resnets.0.conv1"
PROJ = "unet.down_blocks.0.attentions.0.proj_in"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
KERNELS = {CONV: (3, 3, 3), PROJ: (8, 1, 1)}
SIZES = {CONTENT: (12, 10), STYLE: (12, 10), CONV: (27, 8), PROJ: (8, 8), TEXT: (6, 6)}
VIEW = StepView(0, 4, ("uncond", "cond"), (6, 8))


def image_adapter(seed=0, rank=3, scaling=1.0, modules=tuple(SIZES), base="tiny", linear=()):
    """Random factors for some of `SIZES`; those in `linear` are called linear though 1x1."""
    factors = {}
    for name in modules:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        d_in, d_out = SIZES[name]
        kernel = None if name in linear else KERNELS.get(name)
        factors[name] = LoraFactors(
            A=rng.normal(size=(rank, d_in)).astype("f"),
            B=rng.normal(size=(d_out, rank)).astype("f"),
            scaling=scaling,
            component=name.partition(".")[0],
            kind="conv" if kernel else "linear",
            kernel=kernel,
        )
    return Adapter(factors, AdapterCard(f"adapter {seed}", base_model=base, trigger_words=("cat",)))


def noise(*key, shape=(2, 4, 6, 8)):
    """A tensor that the key decides."""
    seed = zlib.crc32(repr(key).encode())
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def predicted(branch, step, steps):
    """A prediction linear in the strength of each adapter's module and text encoder."""
    found = noise("base", step)
    for name, strength in branch.schedule(step, steps).items():
        for module in SIZES:
            weight = strength if isinstance(strength, float) else strength.get(module, 0.0)
            if module != TEXT:
                found = found + weight * noise(name, module, step)
    for name, weight in branch.text_weights(step, steps).items():
        found = found + weight * noise(name, TEXT)
    return found


def play(plan: Scheduled, steps=12):
    """(steps, ...) what the plan predicts at each step, and how many branches it asked for."""
    aggregator, whole, asked = plan.aggregator(), [], 0
    for step in range(steps):
        wanted = list(aggregator.wanted(step, steps))
        asked += len(wanted)
        parts = {i: predicted(plan.branches[i], step, steps) for i in wanted}
        view = StepView(step, steps, VIEW.halves, VIEW.size)
        whole.append(aggregator.combine(parts, view))
    return torch.stack(whole), asked
