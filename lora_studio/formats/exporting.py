"""Writing an adapter for other programs. What is handed out was read back first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lora_studio.adapter import Adapter
from lora_studio.errors import LoraStudioError
from lora_studio.formats import card, diffusers, kohya, peft
from lora_studio.formats.facts import RECIPE, describe
from lora_studio.formats.halves import loss
from lora_studio.formats.loading import load_adapter
from lora_studio.limits import OURS, limited
from lora_studio.registry import Registry

MAX_LOSS = 1e-3
"""Relative change of any module's update between an adapter and the file that is handed out."""

Writer = Callable[[Adapter, Path, Mapping[str, str]], None]

EXPORTS: Registry[Writer] = Registry("download format")


def export(
    adapter: Adapter,
    dialect: str,
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes `adapter` and returns `path` once it reads back as the same adapter.

    Args:
        dialect: "peft" (path is a folder), "diffusers" or "kohya" (path is a .safetensors file).
        metadata: `family`, `date`, `merged_from`, `recipe` (see `facts.describe`), or any other
            fields of the header.

    Raises:
        NotFound: no such dialect. InvalidRequest: it cannot say this adapter.
        LoraStudioError: the file does not read back.
    """
    write, path = EXPORTS.get(dialect), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(adapter, path, metadata or {})
    with limited(OURS):
        again = load_adapter(path)
    if problem := _difference(again, adapter):
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
) -> Path:
    """Writes an ordinary PEFT folder that `PeftModel.from_pretrained` loads.

    Args:
        folder: created if missing; holds adapter_config.json, adapter_model.safetensors, README.md.
        extra: further files by name, such as a recipe.
        metadata: text fields of the weights' header.
    """
    folder = Path(folder)
    peft.save(adapter, folder, metadata)
    (folder / "README.md").write_text(card.render(adapter.card), encoding="utf-8")
    for name, content in (extra or {}).items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    return folder


def _difference(again: Adapter, adapter: Adapter) -> str:
    """What differs, or ""."""
    if strange := sorted(again.factors.keys() ^ adapter.factors.keys()):
        return f"{len(strange)} modules differ, such as '{strange[0]}'"
    for name, module in adapter.factors.items():
        change = loss(again.factors[name], module)
        if change > MAX_LOSS:
            return f"the update of '{name}' changes by {change:.1e}"
    return ""


def _peft(adapter: Adapter, path: Path, metadata: Mapping[str, str]) -> None:
    recipe = metadata.get("recipe", "")
    save_adapter(adapter, path, metadata={RECIPE: recipe} if recipe else None)


def _diffusers(adapter: Adapter, path: Path, metadata: Mapping[str, str]) -> None:
    diffusers.save(adapter, path, describe(adapter, metadata))


def _kohya(adapter: Adapter, path: Path, metadata: Mapping[str, str]) -> None:
    kohya.save(adapter, path, describe(adapter, metadata))


EXPORTS.register("peft", _peft)
EXPORTS.register("diffusers", _diffusers)
EXPORTS.register("kohya", _kohya)
