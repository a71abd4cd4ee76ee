"""PEFT's names for adapters that are no LoRA: the module's path, then a name of the method's own
(`vera_lambda_b`), and tensors that all modules share above them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lora_studio.formats.dialect import Place, spelling
from lora_studio.formats.names import of_transformer, place
from lora_studio.formats.roles import PREFIX
from lora_studio.formats.tuners import role

NAME = "peft-tuner"

_LORA = {"lora_A": "A", "lora_B": "B", "ranknum": "ranknum"}
"""What AdaLoRA shares with LoRA."""
_ABOVE = "base_model."


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether any tensor has a name of one of PEFT's other methods."""
    return spelling(keys) == NAME


def locate(keys: Collection[str]) -> dict[str, Place | None]:
    """Places of tensors; what all modules share has the path ""."""
    split = {key: _split(key) for key in keys}
    transformer = of_transformer(path for path, name in split.values() if path and name)
    found: dict[str, Place | None] = {}
    for key, (path, name) in split.items():
        if not name:
            found[key] = None
        elif not path:
            found[key] = Place("", "", "", name)
        else:
            component, canonical = place(path, transformer)
            found[key] = Place(component, canonical, path, name)
    return found


def _split(key: str) -> tuple[str, str]:
    """(module's path, role); the role is "" if the name means nothing here."""
    inside = key.removeprefix(PREFIX) if key.startswith(PREFIX) else key.removeprefix(_ABOVE)
    pieces = inside.removesuffix(".weight").split(".")
    name = role(pieces[-1]) or _LORA.get(pieces[-1], "")
    return ".".join(pieces[:-1]), name
