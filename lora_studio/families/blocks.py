"""Which blocks of a pipeline an image adapter acts on, in the order a picture passes them."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

_STAGES = ("down_blocks", "mid_block", "up_blocks")


def block_of(module: str) -> str:
    """The block a module of a pipeline belongs to, as a prefix of its path: "unet.down_blocks.0",
    "unet.mid_block", "text_encoder", "transformer.single_transformer_blocks"."""
    parts = module.split(".")
    if parts[0].startswith("text_encoder") or len(parts) < 3:
        return parts[0]
    numbered = parts[1] in ("down_blocks", "up_blocks") and parts[2].isdecimal()
    return ".".join(parts[: 3 if numbered else 2])


def block_norms(norms: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Block -> Frobenius norm of its update, from (module, norm) pairs; by depth."""
    squares: dict[str, float] = {}
    for module, norm in norms:
        block = block_of(module)
        squares[block] = squares.get(block, 0.0) + norm * norm
    return {block: sqrt(squares[block]) for block in sorted(squares, key=depth)}


def depth(block: str) -> tuple[bool, int, str]:
    """Sorts blocks by depth: text encoders, what is before the first block, the blocks."""
    parts = block.split(".")
    stage = _STAGES.index(parts[1]) + 1 if len(parts) > 1 and parts[1] in _STAGES else 0
    return not parts[0].startswith("text_encoder"), stage, block
