"""PyTorch pickles as safetensors, where an operator allows them: weights only, and only tensors
that are exactly what they seem. Runs in the confined child, never in the web process."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_studio.errors import InvalidAdapter
from lora_studio.limits import limits

if TYPE_CHECKING:
    import torch

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
HINT = (
    "Pickle files can run code and are never opened here. Convert it on your machine and upload "
    'the result:\nweights = torch.load("adapter.bin", weights_only=True)\n'
    'safetensors.torch.save_file(weights, "adapter.safetensors")'
)


def convert(path: Path, target: Path) -> Path:
    """Writes the tensors of the pickle at `path` to `target` as safetensors and returns it.

    `torch.load(weights_only=True)` runs nothing but its list of allowed functions; beyond that each
    tensor must be plain, dense, contiguous, on the CPU, and own as many bytes as its shape says,
    since views with stride 0 stand for terabytes. Only zip archives whose entries are stored
    unpacked are read, since packed ones can be bombs and are never written by PyTorch. A list of
    tensors is named as cloneofsimo's scripts order it: up, then down, module by module.

    Raises:
        InvalidAdapter: pickles are not allowed here, or this one is none of those.
    """
    from safetensors.torch import save_file

    if not limits().pickles:
        raise InvalidAdapter(f"This is a PyTorch pickle. {HINT}", "pickle")
    _check_stored(path)
    tensors = _named(_load(path))
    if len(tensors) > limits().tensors:
        raise InvalidAdapter(f"The pickle holds {len(tensors)} tensors.", "header-caps")
    for name, tensor in tensors.items():
        _check_plain(name, tensor)
    save_file(tensors, target)
    return target


def _load(path: Path) -> Any:
    import torch

    try:
        with path.open("rb") as file:  # given a path, torch.load goes by its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError, RuntimeError, ValueError, TypeError, IndexError, KeyError,
        AttributeError, EOFError, OSError, AssertionError, UnicodeError, RecursionError,
    ) as error:  # fmt: skip
        raise InvalidAdapter(
            "The pickle holds more than tensors, or is damaged, so it is not opened. Save the "
            "tensors alone as safetensors.",
            "pickle",
        ) from error


def _check_stored(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise InvalidAdapter(
            "This pickle has PyTorch's oldest layout, which is not read. Save it again with "
            "torch.save, or as safetensors.",
            "pickle",
        ) from error
    size = sum(entry.file_size for entry in entries)
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or size > path.stat().st_size:
        raise InvalidAdapter(
            "This pickle is packed in a way PyTorch does not write; it is not opened.", "zip-ratio"
        )


def _named(data: Any) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(data, list) and data and len(data) % 2 == 0:
        data = {f"unet:{i // 2}:{('up', 'down')[i % 2]}": value for i, value in enumerate(data)}
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping):
        raise InvalidAdapter("The pickle holds no table of tensors.", "pickle")
    strange = [
        str(key)[:80]
        for key, value in data.items()
        if not isinstance(key, str) or type(value) not in (torch.Tensor, torch.nn.Parameter)
    ]
    if strange:
        raise InvalidAdapter(
            f"The pickle holds {len(strange)} things that are no tensors, such as {strange[0]!r}. "
            "Save the tensors alone as safetensors.",
            "pickle",
        )
    return {key: value.detach() for key, value in data.items()}


def _check_plain(name: str, tensor: torch.Tensor) -> None:
    import torch

    plain = (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.is_contiguous()
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    )
    if not plain:
        raise InvalidAdapter(
            f"The tensor {name[:80]!r} is a view, sparse or quantised. Save it as safetensors, "
            "which stores plain tensors.",
            "pickle",
        )
