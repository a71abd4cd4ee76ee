"""Adapters made from others without training: a near-duplicate, and noise of the same size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lora_studio.demo.adapters import CONFIG, write_config
from lora_studio.demo.specs import AdapterSpec

if TYPE_CHECKING:
    import torch

PERTURBATION = 0.02
"""Relative size of the noise that a near-duplicate carries."""


def derive(spec: AdapterSpec, source: Path, folder: Path) -> None:
    """Writes the PEFT folder of a spec of the set "copy" or "noise" from its source's folder."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "adapter_model.safetensors")
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    if spec.set == "copy":
        config["lora_alpha"] = config["lora_alpha"] // 2
        tensors = _near_duplicate(tensors, spec.seed)
    else:
        tensors = _noise(tensors, spec.seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write_config(folder, config)


def _near_duplicate(tensors: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Half the alpha, twice the B, and a little noise: almost the same update, other numbers."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, tensor in sorted(tensors.items()):
        wide = tensor.float()
        shake = torch.randn(wide.shape, generator=generator) * wide.square().mean().sqrt()
        factor = 2.0 if ".lora_B." in name else 1.0
        made[name] = ((wide + PERTURBATION * shake) * factor).to(tensor.dtype)
    return made


def _noise(tensors: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Random factors; in every module the update B A is as large as the source's."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name in sorted(n for n in tensors if ".lora_A." in n):
        partner = name.replace(".lora_A.", ".lora_B.")
        a, b = tensors[name].float(), tensors[partner].float()  # (r, d_in), (d_out, r)
        new_a = torch.randn(a.shape, generator=generator) * a.square().mean().sqrt()
        new_b = torch.randn(b.shape, generator=generator)
        new_b *= (b @ a).norm() / (new_b @ new_a).norm()
        made[name], made[partner] = new_a.to(tensors[name].dtype), new_b.to(tensors[name].dtype)
    return made
