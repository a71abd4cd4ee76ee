"""Random adapters with the shapes of large models, for benchmarks/merge.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.formats import canonical
from lora_studio.lazy_factors import LazyFactors

Sizes = dict[str, tuple[int, int]]


def llama(layers: int = 32, d: int = 4096, wide: int = 11008) -> Sizes:
    """Module -> (d_in, d_out) of Llama 2 7B, seven projections of each layer."""
    leaves = {f"self_attn.{n}_proj": (d, d) for n in "qkvo"}
    leaves |= {"mlp.gate_proj": (d, wide), "mlp.up_proj": (d, wide), "mlp.down_proj": (wide, d)}
    return {f"model.layers.{i}.{n}": s for i in range(layers) for n, s in leaves.items()}


def sdxl() -> Sizes:
    """The attention and feed-forward layers of SDXL's 70 transformer blocks."""
    counts = {"down_blocks.1": (2, 2, 640), "down_blocks.2": (2, 10, 1280)}
    counts |= {"mid_block": (1, 10, 1280), "up_blocks.0": (3, 10, 1280), "up_blocks.1": (3, 2, 640)}
    found: Sizes = {}
    for stem, (attentions, blocks, d) in counts.items():
        leaves = {f"attn{i}.{n}": (d, d) for i in (1, 2) for n in ("to_q", "to_out.0")}
        leaves |= {f"attn1.{n}": (d, d) for n in ("to_k", "to_v")}
        leaves |= {f"attn2.{n}": (2048, d) for n in ("to_k", "to_v")}
        leaves |= {"ff.net.0.proj": (d, 8 * d), "ff.net.2": (4 * d, d)}
        for a in range(attentions):
            for b in range(blocks):
                name = f"unet.{stem}.attentions.{a}.transformer_blocks.{b}"
                found |= {f"{name}.{leaf}": size for leaf, size in leaves.items()}
    return found


SHAPES: dict[str, tuple[Callable[[], Sizes], int]] = {
    "llama-r16": (llama, 16),
    "llama-r64": (llama, 64),
    "sdxl-r16": (sdxl, 16),
}


def build(shape: str, seed: int, path: Path) -> None:
    """Writes a random adapter of that shape."""
    sizes, rank = SHAPES[shape][0](), SHAPES[shape][1]
    component = "unet" if shape.startswith("sdxl") else "model"

    def make(name: str) -> LoraFactors:
        rng = np.random.default_rng([seed, list(sizes).index(name)])
        a, b = (rng.standard_normal((d, rank), dtype=np.float32) for d in sizes[name])
        return LoraFactors(np.ascontiguousarray(a.T) / 64, b / 64, component=component)

    canonical.write(Adapter(LazyFactors(sorted(sizes), make), AdapterCard(base_model="b")), path)
