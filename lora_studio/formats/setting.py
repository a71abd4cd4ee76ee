"""What a module's tensors do not say by themselves: fields of the configuration, tensors that all
modules share, and the sizes of the base model's layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lora_studio.errors import InvalidAdapter

Shapes = Mapping[str, tuple[int, int]]
"""Module -> size of its weight, as the base model's file has it."""
Option = bool | float


@dataclass(frozen=True)
class Setting:
    """Surroundings of the modules of one file.

    Args:
        options: known and checked fields of adapter_config.json.
        shared: role -> tensor that belongs to no module ("vera_A").
        shapes: sizes of the base model's weights; {} if the base is not known.
        modules: canonical paths of all modules of the file.
    """

    options: Mapping[str, Option] = field(default_factory=dict)
    shared: Mapping[str, np.ndarray] = field(default_factory=dict)
    shapes: Shapes = field(default_factory=dict)
    modules: tuple[str, ...] = ()

    def number(self, name: str, default: float | None = None) -> float:
        """A field that is a number; raises InvalidAdapter where it is needed and missing."""
        value = self.options.get(name, default)
        if value is None:
            raise InvalidAdapter(
                f"adapter_config.json does not say '{name}', without which this adapter means "
                "nothing. Upload the folder, or a zip of it, as PEFT saved it.",
                "config-values",
            )
        return float(value)

    def flag(self, name: str) -> bool:
        return self.options.get(name) is True

    def size(self, path: str, d_out: int | None = None) -> tuple[int, int]:
        """(d_out, d_in) of a module's weight in the base model.

        Args:
            d_out: if the file says it; it tells which way round the base has its weight.

        Raises:
            InvalidAdapter: the base model is not here, or has no such module.
        """
        found = self.shapes.get(path)
        if found is None:  # a checkpoint may leave out the outermost module's name
            tails = (size for known, size in self.shapes.items() if path.endswith(f".{known}"))
            found = next(tails, None)
        if found is None:
            why = f"has no module '{path}'" if self.shapes else "is not on this machine"
            raise InvalidAdapter(
                "Files of this kind do not say how wide each layer is, and the base model they "
                f"name {why}. Name a base model that is here, or convert the adapter with "
                "peft.convert_to_lora and upload the LoRA.",
                "base-model",
            )
        turned = self.flag("fan_in_fan_out") if d_out is None else found[0] != d_out
        return (found[1], found[0]) if turned else found

    def widest(self) -> tuple[int, int]:
        """Largest d_out and largest d_in of all modules of the file."""
        sizes = [self.size(path) for path in self.modules]
        return max(d_out for d_out, _ in sizes), max(d_in for _, d_in in sizes)
