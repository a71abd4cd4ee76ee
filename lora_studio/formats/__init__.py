"""Files in and out: any supported adapter file becomes an Adapter, any Adapter a file that PEFT,
diffusers or kohya's readers load."""

from __future__ import annotations

from lora_studio.formats.exporting import EXPORTS, export, save_adapter
from lora_studio.formats.loading import Loaded, TestPrompt, load, load_adapter

__all__ = ["EXPORTS", "Loaded", "TestPrompt", "export", "load", "load_adapter", "save_adapter"]
