"""Where what was fitted lies: gates and token routers of base models, retriever heads of embedders.

A studio's own are files of one folder, which backups copy; those that came with a base model lie in
a folder of the same name beside it. The studio's own come first.
"""

from __future__ import annotations

import re
from pathlib import Path

from lora_studio.families import resolve_base
from lora_studio.settings import Settings

FOLDER = "fitted"
_SUFFIX = ".safetensors"


def own_path(what: str, of: str, data_dir: Path | None = None) -> Path:
    """A studio's own file, there or not.

    Args:
        what: "gate", a token router's rule, ...
        of: base model or embedder, an id or a folder.
        data_dir: of the studio; default: as the environment says.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "--", of)[-150:]
    home = data_dir or Settings.from_env().data_dir
    return home / FOLDER / f"{what}.{name}{_SUFFIX}"


def beside(what: str, folder: Path) -> Path:
    """A file that came with the base model in `folder`, there or not."""
    return folder / FOLDER / f"{what}{_SUFFIX}"


def paths(what: str, base: str) -> list[Path]:
    """Where something fitted for a base model may lie, in the order in which it is looked for."""
    folder = Path(resolve_base(base))
    return [own_path(what, base), *([beside(what, folder)] if folder.is_dir() else [])]


def find(what: str, base: str) -> Path | None:
    """The first of `paths` that is there."""
    return next((path for path in paths(what, base) if path.is_file()), None)
