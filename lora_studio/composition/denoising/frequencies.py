"""How much fine detail a prediction holds, by the rings of its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_studio.composition.denoising.grid import as_grid
from lora_studio.composition.schedule import StepView


def by_high_frequencies(predictions: Sequence[Any], view: StepView) -> list[int]:
    """Indices of the predictions, most high frequencies first; equals keep their order."""
    shares = [high_share(as_grid(p, view), view) for p in predictions]
    return sorted(range(len(shares)), key=lambda i: -shares[i])


def high_share(grid: Any, view: StepView) -> float:
    """Share of the spectrum's mean amplitudes by ring that lies in the outer half of the rings.

    Rings are the whole frequencies 1 .. min(height, width) // 2 of the mean over channels, so that
    each exists at any size; a prediction of one pixel has none, and a share of 0.
    """
    import torch

    half = view.halves.index("cond") if "cond" in view.halves else 0
    picture = grid[half].float().mean(0)  # (height, width)
    side = min(picture.shape)
    down, across = (torch.fft.fftfreq(n, device=picture.device) for n in picture.shape)
    rings = (torch.hypot(down[:, None], across[None]) * side).round().long()
    amplitude = torch.fft.fft2(picture).abs()
    means = [float(amplitude[rings == ring].mean()) for ring in range(1, side // 2 + 1)]
    whole = sum(means)
    return sum(means[len(means) // 2 :]) / whole if whole else 0.0
