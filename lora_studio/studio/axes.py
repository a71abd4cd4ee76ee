"""The axes of an XY grid: what varies, and the values written as ranges or lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lora_studio.errors import InvalidRequest

AxisKind = Literal["weight", "method", "seed", "steps", "guidance", "prompt"]
WHOLE = ("seed", "steps")
MAX_VALUES = 16

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER})\s*-\s*({_NUMBER})(?:\s*\(\s*({_NUMBER})\s*\))?")
"""As AUTOMATIC1111 writes it: "0-1.2 (+0.2)"."""


@dataclass(frozen=True)
class Axis:
    """One side of a grid.

    Args:
        kind: what varies.
        values: in order; numbers, names of methods, or prompts.
        source: for "weight", the id of the adapter whose weight it is.
        title: what people are shown, such as the adapter's title.
    """

    kind: AxisKind
    values: tuple[Any, ...]
    source: str = ""
    title: str = ""

    def label(self, value: Any) -> str:
        """How a value is shown at its row or column."""
        if self.kind in ("prompt", "method"):
            return str(value)
        name = self.title or self.source[:8] if self.kind == "weight" else self.kind
        return f"{name} {value:g}"


def read_axis(data: Mapping[str, Any]) -> Axis:
    """An axis from {"kind", "values" (text or a list), "source", "title"}.

    Raises:
        InvalidRequest: an unknown kind, no values, too many, or one that cannot be read.
    """
    kind: Any = data.get("kind")
    if kind not in get_args(AxisKind):
        raise InvalidRequest(f"An axis is one of {', '.join(get_args(AxisKind))}; not {kind!r}.")
    if kind == "weight" and not data.get("source"):
        raise InvalidRequest("Choose the adapter whose weight the axis varies.")
    given = data.get("values")
    if kind in ("prompt", "method"):
        lines = given.splitlines() if isinstance(given, str) else list(given or [])
        values = [str(line).strip() for line in lines if str(line).strip()]
    else:
        values = [_whole(kind, v) if kind in WHOLE else v for v in _numbers(given)]
    distinct = tuple(dict.fromkeys(values))
    if not 1 <= len(distinct) <= MAX_VALUES:
        raise InvalidRequest(
            f"An axis has 1 to {MAX_VALUES} values; {kind} has {len(distinct)}. "
            'Write them as "0-1.2 (+0.2)" or "0, 0.5, 1".'
        )
    return Axis(kind, distinct, str(data.get("source") or ""), str(data.get("title") or "")[:80])


def _numbers(given: Any) -> list[float]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        given = ", ".join(str(value) for value in given)
    found: list[float] = []
    for part in str(given or "").split(","):
        text = part.strip().replace("−", "-")
        if text:
            found += _part(text)
    return found


def _part(text: str) -> list[float]:
    if re.fullmatch(_NUMBER, text):
        return [float(text)]
    match = _RANGE.fullmatch(text)
    if not match:
        raise InvalidRequest(f"'{text[:40]}' is neither a number nor a range like 0-1.2 (+0.2).")
    low, high = float(match[1]), float(match[2])
    step = float(match[3]) if match[3] else (1.0 if high >= low else -1.0)
    if step == 0 or (high - low) * step < 0:
        raise InvalidRequest(f"'{text[:40]}' never ends: the step leads away from {high:g}.")
    count = int((high - low) / step + 1e-9) + 1
    if count > MAX_VALUES:
        raise InvalidRequest(f"'{text[:40]}' has {count} values; at most {MAX_VALUES} are drawn.")
    return [round(low + i * step, 6) for i in range(count)]


def _whole(kind: str, value: float) -> int:
    if value != int(value) or value < 0:
        raise InvalidRequest(f"{kind} is {value:g}; it must be a whole number, 0 or more.")
    return int(value)
