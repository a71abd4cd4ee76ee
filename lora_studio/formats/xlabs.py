"""XLabs' names for Flux.1: `double_blocks.0.processor.qkv_lora1.down.weight`, with no alpha; 1 is
the picture's side of a double block and 2 the words'."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from lora_studio.formats.cuts import Cut
from lora_studio.formats.dialect import Place, spelling
from lora_studio.formats.originals.table import one, qkv

NAME = "xlabs"

_KEY = re.compile(
    r"((?:diffusion_model\.)?(double|single)_blocks\.([0-9]{1,3})\.processor\.((?:qkv|proj)_lora[12]?))"
    r"\.(down|up)\.weight"
)
_ROLES = {"down": "A", "up": "B"}
_MODULES = {
    ("double", "qkv_lora1"): ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("double", "qkv_lora2"): ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ("double", "proj_lora1"): ("attn.to_out.0",),
    ("double", "proj_lora2"): ("attn.to_add_out",),
    ("single", "qkv_lora"): ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("single", "proj_lora"): ("proj_out",),
}
_BLOCKS = {"double": "transformer_blocks", "single": "single_transformer_blocks"}


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether adapters sit in processors of Flux's own blocks."""
    return spelling(keys) == NAME


def locate(keys: Collection[str]) -> dict[str, Place | None]:
    """Places of tensors; queries, keys and values share one pair of factors."""
    return {key: _place(key) for key in keys}


def _place(key: str) -> Place | None:
    found = _KEY.fullmatch(key)
    leaves = _MODULES.get((found[2], found[4])) if found else None
    if found is None or leaves is None:
        return None
    block = f"transformer.{_BLOCKS[found[2]]}.{int(found[3])}"
    paths = [f"{block}.{leaf}" for leaf in leaves]
    cut: Cut = one(paths[0]) if len(paths) == 1 else qkv(*paths)
    path = paths[0] if len(paths) == 1 else f"transformer.{found[1]}"
    return Place("transformer", path, found[1], _ROLES[found[5]], cut)
