"""MLX's names: the module's path, then `lora_a` (d_in, r) and `lora_b` (r, d_out), both the other
way round than elsewhere; the factor on their product stands in adapter_config.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lora_studio.formats.dialect import Place, spelling
from lora_studio.formats.header import TensorInfo
from lora_studio.formats.names import of_transformer, place

NAME = "mlx"
SCALE = 20.0
"""What mlx-lm multiplies the product by unless it is told otherwise."""

EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings")

_ROLES = {"lora_a": "mlx_a", "lora_b": "mlx_b", "m": "magnitude"}


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether any tensor's name ends with `lora_a` or `lora_b`, in small letters."""
    return spelling(keys) == NAME


def locate(keys: Mapping[str, TensorInfo]) -> dict[str, Place | None]:
    """Places of tensors; `m`, the magnitude of DoRA, counts only beside factors."""
    split = {key: key.rpartition(".") for key in keys}
    adapted = {path for path, _, leaf in split.values() if leaf == "lora_a"}
    transformer = of_transformer(adapted)
    found: dict[str, Place | None] = {}
    for key, (path, _, leaf) in split.items():
        role = _ROLES.get(leaf) if path and (leaf != "m" or path in adapted) else None
        component, canonical = place(path, transformer)
        found[key] = Place(component, canonical, path, role) if role else None
    return found
