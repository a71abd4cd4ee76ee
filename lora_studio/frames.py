"""Length-capped JSON frames over a pipe: what the studio and its child processes say to each other.

A frame is 4 bytes of big-endian length and that many bytes of UTF-8 JSON holding one object.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

MAX_FRAME = 8 * 1024 * 1024
"""Largest frame, in bytes; large values travel as files."""

PIPES = "LORA_STUDIO_PIPES"
"""Environment variable that tells the child its two pipe numbers: to read, to write."""

Frame = dict[str, Any]


class BadFrame(Exception):
    """What came over the pipe is no frame: too long, not JSON, or not an object."""


def encode(frame: Mapping[str, Any]) -> bytes:
    """4 bytes big-endian length and UTF-8 JSON; raises BadFrame above the cap or for NaN."""
    try:
        body = json.dumps(frame, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (TypeError, ValueError) as error:
        raise BadFrame(f"not JSON: {error}") from error
    if len(body) > MAX_FRAME:
        raise BadFrame(f"{len(body)} bytes are over the limit of {MAX_FRAME}")
    return struct.pack(">I", len(body)) + body


def decode(body: bytes) -> Frame:
    """The object in a frame's body; raises BadFrame."""
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {error}") from error
    if not isinstance(frame, dict):
        raise BadFrame("not a JSON object")
    return frame


def body_length(header: bytes) -> int:
    """Length announced by a 4-byte header; raises BadFrame above the cap."""
    length = struct.unpack(">I", header)[0]
    if length > MAX_FRAME:
        raise BadFrame(f"a frame of {length} bytes was announced; the limit is {MAX_FRAME}")
    return length


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame of a blocking stream, None at its end; raises BadFrame."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    length = body_length(header)
    body = stream.read(length)
    return decode(body) if len(body) == length else None


def child_pipes() -> tuple[BinaryIO, BinaryIO]:
    """In the child: the streams to read from and to write to; grandchildren do not inherit them."""
    numbers = [int(number) for number in os.environ.pop(PIPES).split(",")]
    for number in numbers:
        os.set_inheritable(number, False)
    return os.fdopen(numbers[0], "rb"), os.fdopen(numbers[1], "wb", buffering=0)


class FrameBuffer:
    """Frames out of the bytes that happen to be there."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._bytes += data
        frames: list[Frame] = []
        while len(self._bytes) >= 4:
            length = body_length(bytes(self._bytes[:4]))
            if len(self._bytes) < 4 + length:
                break
            frames.append(decode(bytes(self._bytes[4 : 4 + length])))
            del self._bytes[: 4 + length]
        return frames
