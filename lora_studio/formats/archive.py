"""Taking an adapter out of an uploaded zip: known names only, sizes counted while reading."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import thumbnail
from lora_studio.formats.weights import ENDINGS

WANTED = ("adapter_config.json", "README.md", "test.jsonl", "recipe.yaml", *thumbnail.NAMES)
MAX_ENTRIES = 64
MAX_SMALL = 4 * 1024 * 1024


def unpack(path: Path, folder: Path, max_bytes: int) -> Path:
    """Extracts the one adapter in the zip at `path` into `folder` and returns `folder`.

    Only the weights (one .safetensors or .npz) and the known text files beside them are taken;
    anything that tries to leave the folder makes the whole archive refused.

    Raises:
        InvalidAdapter: not a zip, several adapters, hostile names, or larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            _check_names(entries)
            weights = [e for e in entries if e.filename.lower().endswith(ENDINGS)]
            if len(weights) != 1:
                raise InvalidAdapter(
                    f"The zip holds {len(weights)} files of weights; expected exactly one "
                    "adapter. Zip one adapter's folder at a time."
                )
            home = PurePosixPath(weights[0].filename).parent
            folder.mkdir(parents=True, exist_ok=True)
            kept = PurePosixPath(weights[0].filename).name
            _copy(archive, weights[0], folder / kept, max_bytes)
            for entry in entries:
                name = PurePosixPath(entry.filename)
                if name.parent == home and name.name in WANTED:
                    _copy(archive, entry, folder / name.name, MAX_SMALL)
    except zipfile.BadZipFile as error:
        raise InvalidAdapter(f"The zip is damaged ({error}). Create it again.") from error
    return folder


def _check_names(entries: list[zipfile.ZipInfo]) -> None:
    if any(PurePosixPath(e.filename).name == "data.pkl" for e in entries):
        raise InvalidAdapter(
            "This is a PyTorch pickle. Pickle files can run code and are never opened here; "
            "convert it with safetensors.torch.save_file and upload the result."
        )
    if len(entries) > MAX_ENTRIES:
        raise InvalidAdapter(f"The zip has {len(entries)} files; an adapter has a handful.")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        hostile = name.startswith("/") or ".." in parts or "\\" in name or ":" in name
        if hostile or not name.isprintable() or name.lower() in seen:
            raise InvalidAdapter(f"The zip holds a file name that is not allowed: {name[:80]!r}.")
        if entry.flag_bits & 0x1:
            raise InvalidAdapter("The zip is encrypted; upload it without a password.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidAdapter("The zip uses an unusual compression; use ordinary deflate.")
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise InvalidAdapter("The zip holds a symbolic link; put the real files in it.")
        seen.add(name.lower())


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, cap: int) -> None:
    written = 0
    with archive.open(entry) as source, target.open("wb") as out:
        while block := source.read(1 << 20):
            written += len(block)
            if written > cap:
                raise InvalidAdapter(f"'{entry.filename[:80]}' is larger than {cap >> 20} MiB.")
            out.write(block)
