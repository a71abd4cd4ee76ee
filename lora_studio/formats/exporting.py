"""Writing an adapter for other programs. What is handed out was read back first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lora_studio.adapter import Adapter
from lora_studio.errors import LoraStudioError
from lora_studio.formats import card, diffusers, kohya, peft
from lora_studio.formats.facts import RECIPE, describe
from lora_studio.formats.halves import DType, checked_dtype, loss
from lora_studio.formats.loading import load_adapter
from lora_studio.limits import OURS, limited
from lora_studio.registry import Registry

MAX_LOSS: dict[DType, float] = {"float32": 1e-3, "float16": 1e-3, "bfloat16": 1e-2}
"""Relative change of any module's update between an adapter and the file that is handed out."""
USUAL: dict[str, DType] = {"peft": "float32", "diffusers": "float16", "kohya": "float16"}

Writer = Callable[[Adapter, Path, Mapping[str, str], DType], None]

EXPORTS: Registry[Writer] = Registry("download format")


def export(
    adapter: Adapter,
    dialect: str,
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
    dtype: str = "",
) -> Path:
    """Writes `adapter` and returns `path` once it reads back as the same adapter.

    Args:
        dialect: "peft" (path is a folder), "diffusers" or "kohya" (path is a .safetensors file).
        metadata: `family`, `date`, `merged_from`, `recipe` (see `facts.describe`), or any other
            fields of the header.
        dtype: of the factors, "float32", "float16" (float32 where that is not exact enough) or
            "bfloat16"; "" is the dialect's usual one.

    Raises:
        NotFound: no such dialect. InvalidRequest: it cannot say this adapter; no such dtype.
        LoraStudioError: the file does not read back.
    """
    write, path = EXPORTS.get(dialect), Path(path)
    numbers = checked_dtype(dtype or USUAL[dialect])
    path.parent.mkdir(parents=True, exist_ok=True)
    write(adapter, path, metadata or {}, numbers)
    with limited(OURS):
        again = load_adapter(path)
    if problem := _difference(again, adapter, MAX_LOSS[numbers]):
        if path.is_file():
            path.unlink()
        raise LoraStudioError(
            f"The {dialect} file does not read back as it should: {problem}. Nothing was handed "
            "out; choose another format and report this."
        )
    return path


def save_adapter(
    adapter: Adapter,
    folder: Path | str,
    extra: Mapping[str, str | bytes] | None = None,
    metadata: Mapping[str, str] | None = None,
    dtype: DType = "float32",
) -> Path:
    """Writes an ordinary PEFT folder that `PeftModel.from_pretrained` loads.

    Args:
        folder: created if missing; holds adapter_config.json, adapter_model.safetensors, README.md.
        extra: further files by name, such as a recipe.
        metadata: text fields of the weights' header.
        dtype: of the factors.
    """
    folder = Path(folder)
    peft.save(adapter, folder, metadata, dtype)
    (folder / "README.md").write_text(card.render(adapter.card), encoding="utf-8")
    for name, content in (extra or {}).items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    return folder


def _difference(again: Adapter, adapter: Adapter, most: float) -> str:
    """What differs, or ""."""
    if strange := sorted(again.factors.keys() ^ adapter.factors.keys()):
        return f"{len(strange)} modules differ, such as '{strange[0]}'"
    for name, module in adapter.factors.items():
        change = loss(again.factors[name], module)
        if change > most:
            return f"the update of '{name}' changes by {change:.1e}"
    return ""


def _peft(adapter: Adapter, path: Path, metadata: Mapping[str, str], dtype: DType) -> None:
    recipe = metadata.get("recipe", "")
    save_adapter(adapter, path, metadata={RECIPE: recipe} if recipe else None, dtype=dtype)


def _diffusers(adapter: Adapter, path: Path, metadata: Mapping[str, str], dtype: DType) -> None:
    diffusers.save(adapter, path, describe(adapter, metadata), dtype)


def _kohya(adapter: Adapter, path: Path, metadata: Mapping[str, str], dtype: DType) -> None:
    kohya.save(adapter, path, describe(adapter, metadata), dtype)


EXPORTS.register("peft", _peft)
EXPORTS.register("diffusers", _diffusers)
EXPORTS.register("kohya", _kohya)
