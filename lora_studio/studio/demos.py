"""Bringing the embedded adapters into the gallery, once per version of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import Loaded, load
from lora_studio.formats.thumbnail import redraw
from lora_studio.gallery import Gallery
from lora_studio.rank_units.measures import measure
from lora_studio.settings import Settings

log = logging.getLogger(__name__)

GROUP = 3
"""Text and image adapters alternate in groups of this many, so that both are seen at once."""


def add_demo(settings: Settings, gallery: Gallery) -> int:
    """Adds the embedded adapters, in place of an earlier version's; returns how many.

    The gallery shows the newest first, so what should come first is added last: good neighbours,
    which compose best, and image adapters among them.
    """
    folders = [*_folders(settings.demo_adapters_dir), *_folders(settings.demo_image_adapters_dir)]
    version = _digest(folders)
    if not folders or gallery.get_note("demo", None) == version:
        return 0
    for old in gallery.search(kinds=("demo",), limit=1000).hits:
        gallery.delete(old.entry.id)
    demo = [found for folder in folders if (found := _loaded(folder))]
    for one in reversed(_in_order(demo)):
        picture = redraw(one.thumbnail) if one.thumbnail else b""
        gallery.add(
            one.adapter,
            tests=one.tests,
            kind="demo",
            thumbnail=picture,
            measures=measure(one.adapter, one.ranks),
        )
    gallery.put_note("demo", version)
    return len(demo)


def _folders(root: Path) -> list[Path]:
    return sorted({path.parent for path in root.glob("*/*.safetensors")})


def _loaded(folder: Path) -> Loaded | None:
    try:
        return load(folder)
    except InvalidAdapter as error:
        log.warning("the embedded adapter in %s is left out: %s", folder.name, error)
        return None


def _in_order(demo: Sequence[Loaded]) -> list[Loaded]:
    """Good neighbours of both kinds in turns, then the rest."""
    near = [d for d in demo if "good-neighbour" in d.adapter.card.tags]
    texts = [d for d in near if d.adapter.modality == "text"]
    images = [d for d in demo if d.adapter.modality == "image"]
    rest = [d for d in demo if d not in texts and d not in images]
    turns = zip_longest(_groups(texts), _groups(images), fillvalue=())
    return [one for pair in turns for group in pair for one in group] + rest


def _groups(items: Sequence[Loaded]) -> list[Sequence[Loaded]]:
    return [items[i : i + GROUP] for i in range(0, len(items), GROUP)]


def _digest(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
        for name in (*names, "README.md", "test.jsonl", "thumbnail.png"):
            file = folder / name
            digest.update(f"{folder.name}/{name}".encode())
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()
