"""mergekit's weights (a number, a gradient, or either under filters) and our weights by module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_studio.composition.module_weights import Weight, checked_weights
from lora_studio.errors import InvalidRequest

Setting = Any


def read_weight(
    settings: Sequence[Setting], notes: list[str]
) -> tuple[float, Mapping[str, Weight]]:
    """(weight, module_weights) of settings of which the first that fits a tensor counts.

    Raises:
        InvalidRequest: no setting, or one that is no weight.
    """
    conditions = [pair for setting in settings for pair in _conditions(setting)]
    found: dict[str, Any] = {}
    for part, value in conditions:
        key = f"*{part}*" if part else "*"
        if any(earlier.strip("*") in part for earlier in found):
            continue  # an earlier one fits wherever this one does
        if _shadows(key, found):
            notes.append(
                f"Where a module has both '{part}' and a filter before it in its name, the longer "
                "one counts here; mergekit takes the first."
            )
        found[key] = value
    if not found:
        raise InvalidRequest("A model of the mergekit YAML has no weight.")
    if "*" not in found:
        notes.append("Modules that no filter of a weight fits have weight 1.")
    alone = found.get("*")
    if set(found) == {"*"} and not isinstance(alone, list):
        return _number(alone), {}
    return 1.0, checked_weights(found)


def write_weight(weight: float, modules: Mapping[str, Weight]) -> Setting:
    """The setting that says `weight` times `modules`: beginnings of names first, since they count
    before parts, and the longest first."""
    if not modules:
        return weight
    order = sorted(modules, key=lambda key: (key.startswith("*"), -len(key), key))
    rows = []
    for key in order:
        value = modules[key]
        times = [weight * v for v in value] if isinstance(value, tuple) else weight * value
        part = key.strip("*") if key.startswith("*") else f"{key}."
        rows.append({"filter": part, "value": times} if part else {"value": times})
    if rows[-1].keys() != {"value"}:
        rows.append({"value": weight})
    return rows[0]["value"] if len(rows) == 1 else rows


def _conditions(setting: Setting) -> list[tuple[str, Any]]:
    """[(part of the name or "", number or list of numbers)]."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list) or not setting or not isinstance(setting[0], Mapping):
        return [("", setting)]
    rows = []
    for row in setting:
        if not isinstance(row, Mapping) or "value" not in row:
            raise InvalidRequest("A weight under filters is a list of {filter, value}.")
        part = row.get("filter") or ""
        if not isinstance(part, str) or "*" in part.strip("*"):
            raise InvalidRequest(f"The filter {str(part)[:80]!r} is no part of a name.")
        rows.append((part.strip("*"), row["value"]))
    return rows


def _shadows(key: str, earlier: Mapping[str, Any]) -> bool:
    return any((len(key), key) > (len(other), other) for other in earlier)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -100 <= value <= 100:
        raise InvalidRequest(f"A weight is {str(value)[:80]}; expected a number from -100 to 100.")
    return float(value)
