"""Trains the judge on pictures of the generator, as they are and as the VAE gives them back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lora_studio.demo.image.autoencoder import decode, encode, tensor
from lora_studio.demo.image.judge import HEADS, NONE, Judge, JudgeNet, Pictures, as_input, half
from lora_studio.demo.image.paint import render
from lora_studio.demo.image.scene import Scene, draw_pair, draw_scene
from lora_studio.demo.image.words import HELD_OBJECTS, OBJECTS, PLAIN, STYLES

log = logging.getLogger(__name__)

PICTURES, STEPS, VAE_STEPS = 12_000, 1_400, 2_100
HALVES, HALF_STEPS = 5_000, 900
UNSEEN = -100
"""The target of a head that a picture says nothing about."""
OUTSIDE = 200.0
"""A shift in pixels that takes the object out of the picture."""
EVERY = (*OBJECTS, *HELD_OBJECTS)
WITHOUT_COLOUR = ("ink",)
WITHOUT_BACKGROUND = ("blueprint", "ink", "neon", "watercolour")
Passed = Callable[[Pictures], Pictures]


@dataclass(frozen=True)
class Judged:
    """Pictures with their right answers.

    Args:
        images: (n, 64, 64, 3) uint8.
        targets: (n, heads) int64, `UNSEEN` where the picture does not say.
    """

    images: Pictures
    targets: NDArray[np.int64]

    def __add__(self, other: Judged) -> Judged:
        return Judged(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.targets, other.targets]),
        )


def targets_of(scene: Scene) -> list[int]:
    """The right answer of every head, `UNSEEN` where the style hides it."""
    empty = scene.dx >= OUTSIDE
    answer = {
        "object": NONE if empty else scene.object,
        "colour": None if empty or scene.style in WITHOUT_COLOUR else scene.colour,
        "background": None if scene.style in WITHOUT_BACKGROUND else scene.background,
        "position": None if empty else scene.position,
        "style": None if empty and scene.style == "stripes" else scene.style,
    }
    return [
        UNSEEN if answer[head] is None else words.index(str(answer[head]))
        for head, words in HEADS.items()
    ]


def draw_judged(rng: np.random.Generator, count: int, empty: float = 0.05) -> Judged:
    """Fresh pictures of every object, half of them plain, a share of them without an object."""
    images, targets = [], []
    for _ in range(count):
        styles = (PLAIN,) if rng.random() < 0.5 else STYLES
        scene = draw_scene(rng, EVERY, styles)
        if rng.random() < empty:
            scene = replace(scene, dx=OUTSIDE)
        images.append(render(scene))
        targets.append(targets_of(scene))
    return Judged(np.stack(images), np.array(targets, np.int64))


def draw_halves(rng: np.random.Generator, count: int) -> Judged:
    """Fresh halves of pairs, in the plain style and in all others."""
    images, targets = [], []
    for i in range(count):
        styles = (PLAIN,) if rng.random() < 0.5 else STYLES
        pair = draw_pair(rng, EVERY, EVERY, styles)
        side, scene = ("left", pair.left) if i % 2 else ("right", pair.right)
        images.append(half(render(pair)[None], side)[0])
        target = targets_of(scene)
        target[list(HEADS).index("position")] = UNSEEN
        targets.append(target)
    return Judged(np.stack(images), np.array(targets, np.int64))


def torn(rng: np.random.Generator, judged: Judged) -> Judged:
    """The pictures cut into 16 squares and shuffled: no whole object is left in them."""
    n = len(judged.images)
    squares = judged.images.reshape(n, 4, 16, 4, 16, 3).swapaxes(2, 3).reshape(n, 16, 16, 16, 3)
    mixed = np.stack([one[rng.permutation(16)] for one in squares])
    images = mixed.reshape(n, 4, 4, 16, 16, 3).swapaxes(2, 3).reshape(n, 64, 64, 3)
    targets = np.full_like(judged.targets, UNSEEN)
    targets[:, list(HEADS).index("object")] = HEADS["object"].index(NONE)
    return Judged(images, targets)


def moved(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 3, 64, 64) each shifted by up to 4 pixels, turned and stretched a little: a style is a
    style wherever its dots or lines fall."""
    n = len(pictures)
    turn, stretch = (0.08 * (2 * torch.rand(n) - 1) for _ in range(2))
    frame = torch.zeros(n, 2, 3)
    frame[:, 0, 0] = frame[:, 1, 1] = 1 + stretch
    frame[:, 0, 1], frame[:, 1, 0] = -turn, turn
    frame[:, :, 2] = 0.125 * (2 * torch.rand(n, 2) - 1)  # 1 is half the picture: 32 pixels
    grid = functional.affine_grid(frame, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def roughened(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 3, 64, 64) with blur, coarseness, noise and a change of light, each on some pictures."""
    n = len(pictures)
    pictures = torch.where(torch.rand(n, 1, 1, 1) < 0.7, moved(pictures), pictures)

    def some(share: float) -> torch.Tensor:
        return (torch.rand(n, 1, 1, 1) < share).float()

    blurred = functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    pictures = torch.lerp(pictures, blurred, some(0.3) * torch.rand(n, 1, 1, 1))
    half = functional.interpolate(
        functional.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear"
    )
    pictures = torch.lerp(pictures, half, some(0.15))
    pictures = pictures + torch.randn_like(pictures) * (some(0.4) * 0.12 * torch.rand(n, 1, 1, 1))
    light = 1 + some(0.4) * 0.16 * (torch.rand(n, 1, 1, 1) - 0.5)
    return pictures * light + some(0.4) * 0.12 * (torch.rand(n, 3, 1, 1) - 0.5)


def loss_of(net: JudgeNet, pictures: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the heads' mean cross-entropies; (n, 3, 64, 64) and (n, heads)."""
    logits = net(pictures)
    parts = [
        functional.cross_entropy(logits[head], targets[:, i], ignore_index=UNSEEN, reduction="sum")
        / (targets[:, i] != UNSEEN).sum().clamp(min=1)
        for i, head in enumerate(HEADS)
    ]
    return torch.stack(parts).sum()


def train_judge(data: Judged, steps: int, seed: int = 0, start: JudgeNet | None = None) -> Judge:
    """Trains on the CPU, 64 pictures a step; `start` goes on from an earlier judge."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = (start or JudgeNet()).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    peak = 2e-3 if start is None else 8e-4
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
    began = time.monotonic()
    for step in range(steps):
        rows = rng.integers(0, len(data.images), 64)
        targets = torch.from_numpy(data.targets[rows])
        loss = loss_of(net, roughened(as_input(data.images[rows])), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            log.info("judge %d: %.3f, %.0f s", step, loss.item(), time.monotonic() - began)
    return Judge(net)


def accuracy(judge: Judge, data: Judged) -> dict[str, tuple[int, int]]:
    """Per head: right answers, and pictures that have an answer."""
    labels = judge(data.images).labels
    rates = {}
    for i, (head, words) in enumerate(HEADS.items()):
        asked = data.targets[:, i] != UNSEEN
        said = np.array([words.index(label) for label in labels[head]])
        rates[head] = (int((said == data.targets[:, i])[asked].sum()), int(asked.sum()))
    return rates


def judged_pictures(
    seed: int, count: int, passed: Sequence[Passed] = (), halves: int = 0
) -> Judged:
    """A training set: fresh pictures and halves, each way of passing them on, and some torn."""
    rng = np.random.default_rng(seed)
    fresh = draw_judged(rng, count)
    if halves:
        fresh += draw_halves(rng, halves)
    data = fresh
    for way in passed:
        data += Judged(way(fresh.images), fresh.targets)
    few = rng.choice(len(data.images), len(data.images) // 25, replace=False)
    return data + torn(rng, Judged(data.images[few], data.targets[few]))


def first_pass(count: int = PICTURES, steps: int = STEPS) -> Judge:
    """A judge that has seen the generator's own pictures."""
    return train_judge(judged_pictures(1, count), steps)


def second_pass(
    judge: Judge, vae_folder: Path, count: int = PICTURES, steps: int = VAE_STEPS
) -> Judge:
    """Goes on from the first pass; half of the pictures come back from the VAE."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(vae_folder)
    data = judged_pictures(2, count, [lambda images: decode(vae, encode(vae, tensor(images)))])
    return train_judge(data, steps, start=judge.net)


def third_pass(
    judge: Judge, vae_folder: Path, count: int = HALVES, steps: int = HALF_STEPS
) -> Judge:
    """Goes on from the second pass with as many halves of pairs as whole pictures."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(vae_folder)
    way = [lambda images: decode(vae, encode(vae, tensor(images)))]
    return train_judge(judged_pictures(3, count, way, halves=count), steps, start=judge.net)


def train(folder: Path, vae_folder: Path) -> dict[str, float]:
    """Trains the judge, writes it to `folder`, and says what it took."""
    began = time.monotonic()
    judge = second_pass(first_pass(), vae_folder)
    third_pass(judge, vae_folder).save(folder)
    seconds = round(time.monotonic() - began)
    steps = STEPS + VAE_STEPS + HALF_STEPS
    return {"pictures": 2 * (PICTURES + HALVES), "steps": steps, "seconds": seconds}
