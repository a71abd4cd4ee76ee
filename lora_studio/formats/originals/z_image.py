"""Z-Image's names: its own code has queries, keys and values in one matrix and a plain `out`."""

from __future__ import annotations

from lora_studio.formats.cuts import Cut
from lora_studio.formats.originals.table import Table, one, qkv, same

_STACKS = ("layers.{}", "noise_refiner.{}", "context_refiner.{}")
_LEAVES = (
    "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0",
    "feed_forward.w1", "feed_forward.w2", "feed_forward.w3",
)  # fmt: skip


def _stack(stack: str) -> dict[str, Cut]:
    parts = [f"{stack}.attention.to_{n}" for n in "qkv"]
    return {
        **same(*(f"{stack}.{leaf}" for leaf in _LEAVES)),
        f"{stack}.attention.qkv": qkv(*parts),
        f"{stack}.attention.out": one(f"{stack}.attention.to_out.0"),
    }


Z_IMAGE = Table(
    "z-image",
    {
        **{name: cut for stack in _STACKS for name, cut in _stack(stack).items()},
        **same(
            "layers.{}.adaLN_modulation.0",
            "noise_refiner.{}.adaLN_modulation.0",
            "all_x_embedder.2-1",
            "all_final_layer.2-1.linear",
            "all_final_layer.2-1.adaLN_modulation.1",
            "t_embedder.mlp.0",
            "t_embedder.mlp.2",
            "cap_embedder.1",
        ),
        "x_embedder": one("all_x_embedder.2-1"),
        "final_layer.linear": one("all_final_layer.2-1.linear"),
        "final_layer.adaLN_modulation.1": one("all_final_layer.2-1.adaLN_modulation.1"),
    },
)
