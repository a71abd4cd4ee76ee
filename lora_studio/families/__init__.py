"""Base models: what kind they are, where a named one lives, and its modules' sizes."""

from lora_studio.families.base_model import check_fits, modality_of, module_shapes, resolve_base
from lora_studio.families.detect import cannot_run, detect, home_of
from lora_studio.families.guess import Guess

__all__ = [
    "Guess",
    "cannot_run",
    "check_fits",
    "detect",
    "home_of",
    "modality_of",
    "module_shapes",
    "resolve_base",
]
