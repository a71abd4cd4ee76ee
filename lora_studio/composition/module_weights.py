"""Weights by module: numbers, or gradients over the depth of a model, for modules named by the
beginning of their name or by a part of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from lora_studio.errors import InvalidRequest
from lora_studio.families.blocks import block_of, depth

Weight = float | tuple[float, ...]
"""One factor, or a gradient: factors at even distances from the first layer to the last."""

MAX_POINTS = 128
MAX_KEYS = 512
LIMIT = 100.0

_FIRST = re.compile(r"emb|wte|wpe|conv_in|proj_in|patch|x_in|img_in|txt_in")
"""In names of modules outside all layers that come before them; all others come behind them."""


def checked_weights(data: Any) -> dict[str, Weight]:
    """The `module_weights` of a source: {key: number or list of numbers}.

    A key is a module or a dotted beginning of its name ("unet.down_blocks.0"), or a part of the
    name between stars ("*mlp*"); "*" is every module.

    Raises:
        InvalidRequest: the key or value that is wrong, and what is expected.
    """
    if not isinstance(data, Mapping):
        raise InvalidRequest("units and module_weights of a source are objects.")
    if len(data) > MAX_KEYS:
        raise InvalidRequest(f"module_weights has {len(data)} keys; at most {MAX_KEYS} are taken.")
    return {_key(key): _weight(str(key), value) for key, value in data.items()}


def plain_weights(weights: Mapping[str, Weight]) -> dict[str, float | list[float]]:
    """The weights as JSON and YAML have them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in weights.items()}


def module_factors(weights: Mapping[str, Weight], modules: Collection[str]) -> dict[str, float]:
    """Module -> its factor; 1 where no key fits.

    Of the keys that fit a module one counts alone: the longest beginning of its name, else the
    longest part. A part is looked for in the name with ".weight" behind it, as mergekit looks for
    its filters in names of tensors. A gradient is read at the place of the module's layer, from 0
    (first) to 1 (last), with straight lines between its numbers.

    Raises:
        InvalidRequest: a key that fits no module.
    """
    strangers = [key for key in weights if not any(_fits(key, name) for name in modules)]
    if strangers:
        raise InvalidRequest(_stranger(min(strangers)))
    places = depths(modules) if any(isinstance(w, tuple) for w in weights.values()) else {}
    found: dict[str, float] = {}
    for name in modules:
        key = _key_of(weights, name)
        value = 1.0 if key is None else weights[key]
        found[name] = at(value, places[name]) if isinstance(value, tuple) else value
    return found


def at(gradient: tuple[float, ...], place: float) -> float:
    """The gradient's value at `place`, 0..1."""
    if len(gradient) == 1:
        return gradient[0]
    exact = place * (len(gradient) - 1)
    left = min(int(exact), len(gradient) - 2)
    share = exact - left
    return (1 - share) * gradient[left] + share * gradient[left + 1]


def depths(modules: Collection[str]) -> dict[str, float]:
    """Module -> how deep in its model it lies, 0 (first layer) to 1 (last).

    Layers are numbered blocks: `i / (n - 1)` with n the number of layers up to the last one that
    the adapter reaches, so that an adapter of all layers gets mergekit's numbers. A UNet's layers
    are its blocks in the order a picture passes them; each text encoder is a model of its own.
    """
    layers = {name: _layer(name) for name in modules}
    counts: dict[str, int] = {}
    for stack, number in filter(None, layers.values()):
        counts[stack] = max(number + 1, counts.get(stack, 0))
    order = sorted({block_of(n) for n in modules if n.startswith("unet.")}, key=depth)
    blocks = [b for b in order if _in_unet(b)]
    return {name: _place(name, layers[name], counts, blocks) for name in modules}


def _place(
    name: str, layer: tuple[str, int] | None, counts: Mapping[str, int], blocks: list[str]
) -> float:
    block = block_of(name) if name.startswith("unet.") else ""
    if block in blocks:
        return blocks.index(block) / (len(blocks) - 1) if len(blocks) > 1 else 1.0
    if layer is None or block:
        return 0.0 if _FIRST.search(name) else 1.0
    stack, number = layer
    before = _before(stack, counts)
    total = before + counts[stack] + _behind(stack, counts)
    return (before + number) / (total - 1) if total > 1 else 1.0


def _in_unet(block: str) -> bool:
    return any(f".{stage}" in block for stage in ("down_blocks", "mid_block", "up_blocks"))


def _layer(name: str) -> tuple[str, int] | None:
    """The stack of layers and the number of the layer in it, told by the first number."""
    parts = name.split(".")
    at_number = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    if at_number is None or at_number == 0 or len(parts[at_number]) > 6:
        return None
    return ".".join(parts[:at_number]), int(parts[at_number])


def _before(stack: str, counts: Mapping[str, int]) -> int:
    """Layers of the double-stream blocks, which come before the single ones in a transformer."""
    head, _, leaf = stack.rpartition(".")
    return counts.get(f"{head}.{leaf.removeprefix('single_')}", 0) if _single(leaf) else 0


def _behind(stack: str, counts: Mapping[str, int]) -> int:
    head, _, leaf = stack.rpartition(".")
    return 0 if _single(leaf) else counts.get(f"{head}.single_{leaf}", 0)


def _single(leaf: str) -> bool:
    return leaf.startswith("single_")


def _key_of(weights: Mapping[str, Weight], name: str) -> str | None:
    start = name
    while start:
        if start in weights:
            return start
        start = start.rpartition(".")[0]
    parts = [key for key in weights if key.startswith("*") and _fits(key, name)]
    return max(parts, key=lambda key: (len(key), key)) if parts else None


def _fits(key: str, name: str) -> bool:
    if key.startswith("*"):
        return key.strip("*") in f"{name}.weight"
    return name == key or name.startswith(f"{key}.")


def _stranger(key: str) -> str:
    if key.startswith("*"):
        return f"The adapter has no module with '{key.strip('*')}' in its name."
    return f"The adapter has no module '{key}'."


def _key(key: Any) -> str:
    text = str(key)
    inner = text.strip("*")
    starred = text == "*" or (text == f"*{inner}*" and inner)
    if not text or len(text) > 300 or not (starred or "*" not in text):
        raise InvalidRequest(
            f"'{text[:80]}' names no modules: write the beginning of their names, a part of them "
            "as *part*, or * for all."
        )
    return text


def _weight(key: str, value: Any) -> Weight:
    many = isinstance(value, list | tuple)
    numbers = list(value) if many else [value]
    if not 1 <= len(numbers) <= MAX_POINTS:
        raise InvalidRequest(
            f"The gradient of '{key[:80]}' has {len(numbers)} numbers; expected 1 to {MAX_POINTS}."
        )
    for number in numbers:
        good = isinstance(number, int | float) and not isinstance(number, bool)
        if not good or not -LIMIT <= number <= LIMIT:
            raise InvalidRequest(
                f"module weight of '{key[:80]}' is {number!r}; expected a number from -100 to 100, "
                "or a list of them for a gradient over the layers."
            )
    return tuple(float(n) for n in numbers) if many else float(numbers[0])
