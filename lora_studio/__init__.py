"""LoRA Studio: search, look into, compose, compare and download LoRA adapters.

Names load on first use: importing the package loads neither torch nor gradio.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "lora_studio.adapter",
    "AdapterCard": "lora_studio.adapter",
    "LoraFactors": "lora_studio.adapter",
    "Settings": "lora_studio.settings",
    "Recipe": "lora_studio.composition",
    "compose": "lora_studio.composition",
    "methods": "lora_studio.composition",
    "verdict": "lora_studio.composition.verdict",
    "load_adapter": "lora_studio.formats",
    "save_adapter": "lora_studio.formats",
    "Gallery": "lora_studio.gallery",
    "Studio": "lora_studio.studio",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lora_studio' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
