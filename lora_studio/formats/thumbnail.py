"""The picture beside an adapter: found in its folder, and drawn anew before anyone is shown it."""

from __future__ import annotations

import io
from pathlib import Path

from lora_studio.errors import InvalidAdapter

NAMES = ("thumbnail.png", "thumbnail.jpg", "thumbnail.jpeg", "thumbnail.webp")
MAX_BYTES = 1024 * 1024
MAX_PIXELS = 4096 * 4096
SIDE = 256


def find(folder: Path) -> bytes | None:
    """Bytes of the folder's thumbnail if they begin as PNG, JPEG or WebP and are at most 1 MiB."""
    for name in NAMES:
        file = folder / name
        if file.is_file() and file.stat().st_size <= MAX_BYTES:
            data = file.read_bytes()
            return data if _is_picture(data) else None
    return None


def redraw(data: bytes, side: int = SIDE) -> bytes:
    """PNG bytes of the picture, at most `side` pixels wide and high; nothing of the file is kept.

    Raises:
        InvalidAdapter: the bytes are no picture that Pillow reads, or it is too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InvalidAdapter("The thumbnail has too many pixels; 512 by 512 is plenty.")
            plain = picture.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InvalidAdapter(f"The thumbnail cannot be read ({error}). Save it as PNG.") from error
    plain.thumbnail((side, side))
    clean = Image.frombytes("RGB", plain.size, plain.tobytes())
    out = io.BytesIO()
    clean.save(out, "PNG", optimize=True)
    return out.getvalue()


def _is_picture(data: bytes) -> bool:
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
