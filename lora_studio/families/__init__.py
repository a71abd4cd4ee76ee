"""Base models: where a named one lives, and which modules of which size it has."""

from lora_studio.families.base_model import check_fits, module_shapes, resolve_base

__all__ = ["check_fits", "module_shapes", "resolve_base"]
