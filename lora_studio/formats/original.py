"""Names of a model's original code with their dots, as ComfyUI, ai-toolkit, OneTrainer, DiffSynth
and the models' own authors write them: `diffusion_model.double_blocks.0.img_attn.qkv.lora_A`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lora_studio.formats.dialect import DENOISERS, ENCODERS, Place, spelling
from lora_studio.formats.resolving import Named, resolve
from lora_studio.formats.roles import split

NAME = "original"


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether modules are named as in the model's original code, with dots."""
    return spelling(keys) == NAME


def locate(keys: Collection[str]) -> dict[str, Place | None]:
    """Places under diffusers' names; a name that no table has is made of known words or none."""
    return resolve({key: _named(key) for key in keys})


def _named(key: str) -> Named | None:
    slot = split(key)
    if slot is None:
        return None
    for start, part in ENCODERS.items():
        if slot.path.startswith(start):
            return Named(part, slot.path.removeprefix(start), slot.path, slot.role)
    start = next((start for start in DENOISERS if slot.path.startswith(start)), "")
    return Named("", slot.path.removeprefix(start), slot.path, slot.role)
