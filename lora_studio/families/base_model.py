"""Finding a base model by name and reading its module sizes from file headers, without torch."""

from __future__ import annotations

from pathlib import Path

from lora_studio.adapter import Adapter
from lora_studio.errors import LoraStudioError
from lora_studio.formats.header import read_header
from lora_studio.settings import DEMO_BASE, Settings

Shapes = dict[str, tuple[int, int]]
"""Module path -> the two sizes of its weight, as stored."""


def resolve_base(name: str) -> str:
    """What `from_pretrained` is given for a base model: the demo's folder, or the name itself."""
    return str(Settings().demo_base_dir) if name == DEMO_BASE else name


def module_shapes(name: str) -> Shapes:
    """Sizes of every weight matrix of a base model in a local folder; {} if they are not known."""
    folder = Path(resolve_base(name))
    if not name or not folder.is_dir():
        return {}
    shapes: Shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            tensors = read_header(file).tensors
        except LoraStudioError:
            return {}
        for key, info in tensors.items():
            if key.endswith(".weight") and len(info.shape) == 2:
                shapes[key.removesuffix(".weight")] = (info.shape[0], info.shape[1])
    return shapes


def check_fits(adapter: Adapter, shapes: Shapes) -> list[str]:
    """What does not fit: module names the base lacks, and sizes that differ.

    Names match by suffix, since a checkpoint may leave out the outermost module's name. Sizes match
    in either order, since Conv1D layers store (d_in, d_out). Nothing is said when `shapes` is {}.
    """
    if not shapes:
        return []
    problems: list[str] = []
    for name, module in adapter.factors.items():
        if module.kind == "conv":
            continue
        found = shapes.get(name) or next(
            (size for known, size in shapes.items() if name.endswith(f".{known}")), None
        )
        if found is None:
            problems.append(f"the base model has no module '{name}'")
        elif sorted(found) != sorted((module.d_out, module.d_in)):
            problems.append(
                f"'{name}' is {module.d_in}→{module.d_out} in the adapter but "
                f"{found[1]}→{found[0]} in the base model"
            )
    return problems
