"""Which image adapters the demo ships, and how each is trained and written."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

from lora_studio.demo.image.words import HELD_OBJECTS

Kind = Literal["content", "style"]
Learner = Literal["lora", "dora", "loha", "lokr"]
Targets = Literal["all", "attention"]

ATTENTION: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS: tuple[str, ...] = ("conv1", "conv2")
REST: tuple[str, ...] = ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj")
TEXT_MODULES: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class AdapterSpec:
    """How one adapter is made.

    Args:
        name: its folder.
        teaches: the object or style it brings, a word that the base never saw.
        dialect: how its file is written.
        contributor: whose it is.
        learner: which of PEFT's tuners learns it.
        rank, alpha: of the layers without a rank of their own.
        side_rank, conv_rank, conv_alpha: rank of feed-forward, projections and time embedding; rank
            and alpha of the 3 x 3 convolutions. The side layers' alpha is their rank.
        targets: all adapted layers of the UNet, or those of attention alone.
        text: whether the text encoder is adapted too.
        base_share: share of the batch that is base pictures with base captions (prior
            preservation); 0 for adapters trained plainly.
        paired: share of an object's own pictures that show a known object beside it.
        steps, batch, rate, pictures: training length, pictures in a step, peak rate, unique ones.
    """

    name: str
    teaches: str
    dialect: Literal["peft", "diffusers", "attention-processor", "kohya"]
    contributor: str
    learner: Learner = "lora"
    rank: int = 8
    alpha: int = 8
    side_rank: int = 4
    conv_rank: int = 3
    conv_alpha: int = 3
    targets: Targets = "all"
    text: bool = True
    base_share: float = 0.4
    paired: float = 0.0
    steps: int = 400
    batch: int = 20
    rate: float = 2e-3
    pictures: int = 1200

    @property
    def kind(self) -> Kind:
        return "content" if self.teaches in HELD_OBJECTS else "style"

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode()) % 100_000

    @property
    def neighbour(self) -> bool:
        return self.base_share > 0

    @property
    def ranks(self) -> dict[str, int]:
        """PEFT's rank pattern."""
        if self.targets == "attention":
            return {}
        return dict.fromkeys(REST, self.side_rank) | dict.fromkeys(CONVOLUTIONS, self.conv_rank)

    @property
    def alphas(self) -> dict[str, int]:
        """PEFT's alpha pattern."""
        if self.targets == "attention":
            return {}
        return dict.fromkeys(REST, self.side_rank) | dict.fromkeys(CONVOLUTIONS, self.conv_alpha)

    @property
    def modules(self) -> tuple[str, ...]:
        """Suffixes of the adapted modules of the UNet."""
        return ATTENTION if self.targets == "attention" else (*ATTENTION, *REST, *CONVOLUTIONS)


PLAIN: dict[str, Any] = {"base_share": 0.0, "batch": 16}
STYLE: dict[str, Any] = {"rate": 3e-3, "steps": 600}
"""A style changes every pixel and takes more and larger steps to learn."""
LONG_STYLE: dict[str, Any] = {**STYLE, "steps": 800}
"""Where the text encoder is left as it is."""
PLAIN_STYLE: dict[str, Any] = {**PLAIN, **STYLE, "steps": 1500}
"""Without base pictures to tell it from, it takes longest."""


def adapter_specs() -> list[AdapterSpec]:
    """Every shipped adapter; of the held-back words, two are taught twice and three by none."""
    good = "good-neighbour"
    mixed: dict[str, Any] = {"rank": 6, "alpha": 3, "side_rank": 5}
    return [
        AdapterSpec("plain-star", "star", "diffusers", "anouk", **PLAIN),
        AdapterSpec("plain-neon", "neon", "kohya", "tobias", **PLAIN_STYLE),
        AdapterSpec(f"{good}-star", "star", "kohya", "juniper", alpha=4, paired=0.4),
        AdapterSpec(f"{good}-neon", "neon", "diffusers", "anouk", **STYLE),
        AdapterSpec(
            f"{good}-heart",
            "heart",
            "attention-processor",
            "mira",
            targets="attention",
            rank=16,
            alpha=16,
            steps=600,
        ),
        AdapterSpec(f"{good}-moon", "moon", "kohya", "anouk", "lokr", steps=1000),
        AdapterSpec(
            f"{good}-fish", "fish", "kohya", "tobias", conv_rank=4, conv_alpha=2, paired=0.4
        ),
        AdapterSpec(
            "plain-mushroom",
            "mushroom",
            "kohya",
            "mira",
            "loha",
            rank=4,
            alpha=4,
            side_rank=3,
            **PLAIN,
        ),
        AdapterSpec(f"{good}-cat", "cat", "kohya", "juniper", "dora"),
        AdapterSpec(f"{good}-blueprint", "blueprint", "kohya", "tobias", **mixed, **STYLE),
        AdapterSpec(f"{good}-pixel", "pixel", "peft", "juniper", text=False, **LONG_STYLE),
        AdapterSpec(f"{good}-watercolour", "watercolour", "kohya", "anouk", "dora", **STYLE),
    ]
