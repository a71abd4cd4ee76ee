"""The judge: a small classifier that says what a 64 x 64 picture of the demo's world shows.

It knows the words that the base model never sees, so that it can tell what an adapter has taught.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lora_studio.demo.image.words import (
    BACKGROUNDS,
    COLOURS,
    HELD_OBJECTS,
    OBJECTS,
    PLAIN,
    POSITIONS,
    STYLES,
)

Head = Literal["object", "colour", "background", "position", "style"]
NONE = "none"
"""The object of a picture in which there is no whole object."""
HEADS: dict[Head, tuple[str, ...]] = {
    "object": (*OBJECTS, *HELD_OBJECTS, NONE),
    "colour": tuple(COLOURS),
    "background": tuple(BACKGROUNDS),
    "position": POSITIONS,
    "style": (PLAIN, *STYLES),
}
FILE = "judge.safetensors"
BATCH = 128
GREY = 128
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class JudgeResult:
    """What n pictures show.

    Args:
        labels: per head, n words, the most probable ones.
        probabilities: per head, (n, words of the head) float32; rows sum to 1.
    """

    labels: Mapping[str, tuple[str, ...]]
    probabilities: Mapping[str, NDArray[np.float32]]

    def shows(self, head: Head, words: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether each picture's label of a head is the word asked for, one per picture."""
        return np.array([a == b for a, b in zip(self.labels[head], words, strict=True)], bool)


class JudgeNet(nn.Module):
    """Four halvings, one wide layer over what is left (4 x 4), one linear layer per head."""

    def __init__(self, widths: Sequence[int] = (24, 48, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
            layers += [
                nn.Conv2d(after, after, 3, 1, 1, groups=8),
                nn.GroupNorm(8, after),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.mix = nn.Sequential(nn.Linear(widths[-1] * 16, 192), nn.SiLU())
        self.heads = nn.ModuleDict({h: nn.Linear(192, len(w)) for h, w in HEADS.items()})

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, 3, 64, 64) in [-1, 1] to logits, per head (n, words)."""
        features = self.mix(self.body(pictures).flatten(1))  # (n, 192)
        return {name: head(features) for name, head in self.heads.items()}


class Judge:
    """A trained `JudgeNet` on the CPU."""

    def __init__(self, net: JudgeNet) -> None:
        self.net = net.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Reads `judge.safetensors` from a folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file was trained for other words.
        """
        with safe_open(folder / FILE, "pt") as file:
            words = json.loads((file.metadata() or {}).get("heads", "{}"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if words != {head: list(known) for head, known in HEADS.items()}:
            raise ValueError(f"{folder / FILE} was trained for other words: build the judge again")
        net = JudgeNet()
        net.load_state_dict(tensors)
        return cls(net)

    def save(self, folder: Path) -> None:
        """Writes `judge.safetensors` in fp16."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.half().contiguous() for key, value in self.net.state_dict().items()}
        save_file(tensors, folder / FILE, {"heads": json.dumps(HEADS)})

    @torch.inference_mode()
    def __call__(self, images: Pictures) -> JudgeResult:
        """Labels (n, 64, 64, 3) uint8 pictures, at least one."""
        shares: dict[Head, list[torch.Tensor]] = {head: [] for head in HEADS}
        for start in range(0, len(images), BATCH):
            logits = self.net(as_input(images[start : start + BATCH]))
            for head, parts in shares.items():
                parts.append(logits[head].softmax(-1))
        joined: dict[Head, NDArray[np.float32]] = {
            head: torch.cat(parts).numpy() for head, parts in shares.items()
        }
        labels = {
            head: tuple(words[int(i)] for i in joined[head].argmax(-1))
            for head, words in HEADS.items()
        }
        return JudgeResult(labels, {**joined})


def as_input(images: Pictures) -> torch.Tensor:
    """(n, 64, 64, 3) uint8 to (n, 3, 64, 64) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def half(images: Pictures, side: Literal["left", "right"]) -> Pictures:
    """(n, 64, 64, 3) with the other half grey, to ask what one object of a pair is."""
    found, middle = images.copy(), images.shape[2] // 2
    found[:, :, slice(middle, None) if side == "left" else slice(0, middle)] = GREY
    return found
