"""Where in a picture an adapter acts: what a region may be, checked before anything reads it."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

from lora_studio.errors import InvalidRequest

MAX_MASK_BYTES = 256_000
MAX_MASK_SIDE = 4096
MAX_WORDS = 300
PNG = b"\x89PNG\r\n\x1a\n"


def checked_region(data: Any) -> dict[str, Any]:
    """{}, {"box": [x0, y0, x1, y1]} with numbers from 0 to 1, or {"mask": base64 of a PNG}; each
    with "prompt", the words for what is inside, if there are any.

    Raises:
        InvalidRequest: anything else, with what is expected.
    """
    if not isinstance(data, Mapping) or set(data) - {"prompt"} not in ({"box"}, {"mask"}, set()):
        raise InvalidRequest(
            'A region is {"box": [x0, y0, x1, y1]} or {"mask": "<base64 PNG>"}, and may have a '
            '"prompt".'
        )
    found = {name: data[name] for name in ("mask",) if name in data}
    if "box" in data:
        found["box"] = _box(data["box"])
    if "mask" in data:
        mask_bytes(data["mask"])
    words = _words(data.get("prompt", ""))
    return {**found, "prompt": words} if words else found


def mask_bytes(text: Any) -> bytes:
    """The PNG of a mask, its size known to be bearable; the picture itself is not read."""
    found = b""
    if isinstance(text, str) and len(text) <= MAX_MASK_BYTES * 4 // 3 + 4:
        try:
            found = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            found = b""
    sides = struct.unpack(">II", found[16:24]) if len(found) >= 24 else (0, 0)
    readable = found.startswith(PNG) and len(found) <= MAX_MASK_BYTES
    if not readable or not all(1 <= side <= MAX_MASK_SIDE for side in sides):
        raise InvalidRequest(
            f"The mask of a region is a PNG in base64, at most {MAX_MASK_BYTES // 1000} kB and "
            f"{MAX_MASK_SIDE} pixels a side; white is where the adapter acts."
        )
    return found


def _words(text: Any) -> str:
    if not isinstance(text, str) or len(text) > MAX_WORDS:
        raise InvalidRequest(f"The words of a region are text of at most {MAX_WORDS} characters.")
    return text.strip()


def _box(data: Any) -> list[float]:
    numbers = isinstance(data, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in data
    )
    if numbers and len(data) == 4:
        x0, y0, x1, y1 = (float(v) for v in data)
        if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
            return [x0, y0, x1, y1]
    raise InvalidRequest(
        f"box is {data!r}; expected [x0, y0, x1, y1] from 0 to 1 with x0 < x1 and y0 < y1."
    )
