"""Finding a base model by name and reading its module sizes from file headers, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path

from lora_studio.adapter import Adapter, Modality
from lora_studio.errors import LoraStudioError
from lora_studio.formats.header import read_header
from lora_studio.formats.names import place
from lora_studio.limits import OURS, limited
from lora_studio.settings import DEMO_BASE, DEMO_IMAGE_BASE, Settings

PIPELINE = "model_index.json"
Shapes = dict[str, tuple[int, int]]
"""Module path -> the two sizes of its weight, as stored; a convolution's is (d_out, c_in*kh*kw)."""


def resolve_base(name: str) -> str:
    """What `from_pretrained` is given for a base model: a demo's folder, or the name itself."""
    settings = Settings()
    demos = {DEMO_BASE: settings.demo_base_dir, DEMO_IMAGE_BASE: settings.demo_image_base_dir}
    return str(demos.get(name, name))


def modality_of(base: str, default: Modality = "text") -> Modality:
    """Whether a base model makes text or images; `default` where only its name is known."""
    if base in (DEMO_BASE, DEMO_IMAGE_BASE):
        return "image" if base == DEMO_IMAGE_BASE else "text"
    folder = _folder(base)
    if folder is None:
        return default
    return "image" if (folder / PIPELINE).is_file() else "text"


def module_shapes(name: str) -> Shapes:
    """Sizes of every weight of a base model in a local folder; {} if they are not known.

    Modules of a diffusers pipeline are named from its component on, and those of CLIP text encoders
    with `text_model.` whether or not the checkpoint has it.
    """
    folder = _folder(resolve_base(name)) if name else None
    if folder is None:
        return {}
    try:
        with limited(OURS):
            return dict(_weights(folder))
    except (LoraStudioError, OSError, ValueError):
        return {}


def check_fits(adapter: Adapter, shapes: Shapes) -> list[str]:
    """What does not fit: module names the base lacks, and sizes that differ.

    Names match by suffix, since a checkpoint may leave out the outermost module's name; names of a
    pipeline match whole. Sizes match in either order, since Conv1D layers store (d_in, d_out).
    Nothing is said when `shapes` is {}.
    """
    if not shapes:
        return []
    problems: list[str] = []
    for name, module in adapter.factors.items():
        found = shapes.get(name)
        if found is None and module.component == "model":
            tails = (size for known, size in shapes.items() if name.endswith(f".{known}"))
            found = next(tails, None)
        if found is None:
            problems.append(f"the base model has no module '{name}'")
        elif sorted(found) != sorted((module.d_out, module.d_in)):
            problems.append(
                f"'{name}' is {module.d_in}→{module.d_out} in the adapter but "
                f"{found[1]}→{found[0]} in the base model"
            )
    return problems


def _folder(name: str) -> Path | None:
    """The folder of that name; None if there is none, or the name cannot be one."""
    try:
        return Path(name) if name and Path(name).is_dir() else None
    except (OSError, ValueError):
        return None


def _weights(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    if not (folder / PIPELINE).is_file():
        yield from _matrices(folder, "")
        return
    for component in _components(folder):
        yield from _matrices(folder / component, component)


def _components(folder: Path) -> list[str]:
    """Parts of a pipeline an adapter may touch: those of model_index.json that are folders here."""
    parts = json.loads((folder / PIPELINE).read_text(encoding="utf-8"))
    wanted = ("unet", "transformer", "text_encoder")
    named = (part for part in parts if part.startswith(wanted) and part.isidentifier())
    return [part for part in named if (folder / part).is_dir()]


def _matrices(folder: Path, component: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for file in sorted(folder.glob("*.safetensors")):
        for key, info in read_header(file).tensors.items():
            if not key.endswith(".weight") or len(info.shape) < 2:
                continue
            path = key.removesuffix(".weight")
            if component:
                path = place(f"{component}.{path}", component == "transformer")[1]
            yield path, (info.shape[0], prod(info.shape[1:]))
