"""diffusers' names before it took PEFT's: `processor.to_q_lora.down.weight`, with no alpha."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lora_studio.formats.dialect import Place, locate_dotted, spelling

NAME = "attention-processor"

_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether any tensor is named `..._lora.down`, `lora.down` or `lora_linear_layer.down`."""
    return spelling(keys) == NAME


def locate(keys: Collection[str]) -> dict[str, Place | None]:
    """Places with today's names: `to_out` is `to_out.0`, and CLIP's `to_q` is `q_proj`."""
    found = locate_dotted(keys)
    return {key: place and place._replace(path=_today(place)) for key, place in found.items()}


def _today(place: Place) -> str:
    stem, _, leaf = place.path.rpartition(".")
    if place.component.startswith("text_encoder"):
        return f"{stem}.{_TEXT.get(leaf, leaf)}"
    return f"{place.path}.0" if leaf == "to_out" else place.path
