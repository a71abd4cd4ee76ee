"""The recipe that a file carries: an adapter made here, a picture made here, or a recipe itself.

Only its text is found here; whoever wants a recipe of it checks what it says.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lora_studio.errors import InvalidRequest
from lora_studio.formats import archive
from lora_studio.formats.facts import RECIPE
from lora_studio.formats.header import read_header

MAX_TEXT = 1 << 20
"""Bytes of a recipe's text."""
PNG = b"\x89PNG\r\n\x1a\n"
PNG_TEXT = "lora_studio"
"""Key of the text in which pictures say how they were made."""

_HELP = (
    "Open a recipe.yaml, a mergekit YAML, or a zip, .safetensors or PNG that was made here by a "
    "composition."
)


def carried_recipe(path: Path | str) -> str:
    """The recipe's text, YAML or JSON, of a YAML or JSON file, a zip, a .safetensors or a PNG.

    Raises:
        InvalidRequest: it carries none. InvalidAdapter: it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidRequest(f"There is no file at {path}.")
    with path.open("rb") as file:
        lead = file.read(9)
    if lead.startswith(PNG):
        text = _of_picture(path)
    elif lead.startswith(b"PK\x03\x04"):
        text = _of_zip(path)
    elif lead[8:9] == b"{" and path.suffix not in (".json", ".yaml", ".yml"):
        text = read_header(path).metadata.get(RECIPE, "")
    else:
        text = _of_text(path)
    if not text.strip():
        raise InvalidRequest(f"{path.name} carries no recipe. {_HELP}")
    if len(text) > MAX_TEXT:
        raise InvalidRequest(f"The recipe in {path.name} is over {MAX_TEXT >> 20} MiB of text.")
    return text


def _of_text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_TEXT + 1)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name} carries no recipe. {_HELP}") from error
    if "\0" in text:
        raise InvalidRequest(f"{path.name} carries no recipe. {_HELP}")
    return text


def _of_zip(path: Path) -> str:
    return (archive.member(path, "recipe.yaml", MAX_TEXT + 1) or b"").decode("utf-8", "replace")


def _of_picture(path: Path) -> str:
    """The recipe among the facts of a picture; its column's adapters as one, where that is all."""
    text = next((value for key, value in _texts(path) if key == PNG_TEXT), "")
    try:
        facts = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        facts = {}
    column = facts.get("column") if isinstance(facts, dict) else None
    if not isinstance(column, Mapping):
        return ""
    if isinstance(column.get("recipe"), Mapping):
        return json.dumps(column["recipe"])
    terms = column.get("terms")
    sources = [_source(term) for term in terms] if isinstance(terms, list) else []
    if not sources:
        return ""
    base = {"repo": str(facts.get("base") or "")}
    made = {"method": "cat", "params": {}, "seed": 0}
    recipe = {"schema": 1, "base": base, "modality": "image", "sources": sources, "compose": made}
    return json.dumps(recipe)


def _source(term: Any) -> dict[str, Any]:
    pair = term if isinstance(term, list) and len(term) == 2 else ["", 1.0]
    return {"id": pair[0], "weight": pair[1]}


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """(key, text) of a PNG's iTXt chunks; what is cut off or odd is passed over."""
    with path.open("rb") as file:
        file.seek(len(PNG))
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                return
            if kind != b"iTXt" or length > MAX_TEXT:
                file.seek(length + 4, 1)
                continue
            body = file.read(length)
            file.seek(4, 1)
            yield from _itxt(body)


def _itxt(body: bytes) -> Iterator[tuple[str, str]]:
    key, _, rest = body.partition(b"\0")
    packed, rest = rest[:1] == b"\x01", rest[2:]
    raw = rest.split(b"\0", 2)[2] if rest.count(b"\0") >= 2 else b""
    if packed:
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(raw, MAX_TEXT)
        except zlib.error:
            return
    yield key.decode("latin-1"), raw.decode("utf-8", errors="replace")
