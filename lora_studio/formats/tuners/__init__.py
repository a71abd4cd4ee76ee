"""PEFT's adapters that are no LoRA but whose update has exact factors: which tensors they have, and
the closed form of each. Every one is compared with PEFT's own layers in the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lora_studio.formats.low_rank import Short
from lora_studio.formats.setting import Setting
from lora_studio.formats.tuners import banks, blocks, projected, scaled, sparse

Convert = Callable[[str, Mapping[str, np.ndarray], Setting], Short]

CONVERTERS: dict[str, tuple[str, Convert]] = {
    "vera_": ("VeRA", projected.vera),
    "randlora_": ("RandLoRA", projected.randlora),
    "vblora_": ("VB-LoRA", banks.vblora),
    "unilora_": ("Uni-LoRA", banks.unilora),
    "shira_": ("SHiRA", sparse.shira),
    "fourierft_": ("FourierFT", sparse.fourierft),
    "miss_": ("MiSS", blocks.miss),
    "bone_": ("Bone", blocks.miss),
    "c3a_": ("C3A", blocks.c3a),
    "gralora_": ("GraLoRA", blocks.gralora),
    "delora_": ("DeLoRA", scaled.delora),
    "lora_E": ("AdaLoRA", scaled.adalora),
}
"""How the names of its tensors begin -> title and the closed form of its update."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "VERA": ("projection_prng_key",),
    "RANDLORA": ("randlora_alpha", "projection_prng_key", "sparse", "very_sparse"),
    "VBLORA": ("topk",),
    "UNILORA": (),
    "SHIRA": (),
    "FOURIERFT": ("scaling", "random_loc_seed"),
    "MISS": (),
    "BONE": (),
    "C3A": (),
    "GRALORA": ("alpha", "r", "hybrid_r"),
    "DELORA": (),
    "ADALORA": ("lora_alpha",),
}
"""peft_type -> fields of adapter_config.json that are read, besides `fan_in_fan_out`."""


def alone(shared: Mapping[str, np.ndarray]) -> str:
    """Why tensors that all modules share make no adapter without any of a module's own, or ""."""
    if "unilora_theta_d" in shared:
        return (
            "This Uni-LoRA file leaves out which number stands where, and that depends on the "
            "order of the base model's modules. Save it with save_indices=True, or convert it with "
            "peft.convert_to_lora and upload the LoRA."
        )
    return ""


def role(name: str) -> str:
    """The role that a part of a tensor's name says it has, or ""."""
    return name if name.startswith(tuple(CONVERTERS)) else ""


def kind(roles: Mapping[str, np.ndarray]) -> str:
    """Key of CONVERTERS for the tensors of a module, or ""."""
    return next((start for name in roles for start in CONVERTERS if name.startswith(start)), "")
