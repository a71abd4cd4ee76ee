"""Taking an adapter out of an uploaded zip: known names only, nothing repaired, sizes counted while
reading. The directory is checked against the bytes of the file before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import thumbnail
from lora_studio.formats.pickles import SUFFIXES
from lora_studio.limits import limits
from lora_studio.refusals import Refusal

CONFIG = "adapter_config.json"
WANTED = (CONFIG, "README.md", "test.jsonl", "recipe.yaml", *thumbnail.NAMES)
WEIGHTS = (".safetensors", ".npz")
MAX_SMALL = 4 * 1024 * 1024
_MAC = "__MACOSX/"
"""Where macOS puts its own notes beside every file of a zip."""

_SMALL = 1 << 20
"""Below this many unpacked bytes no ratio is too high."""

_LOCAL = struct.Struct("<4s5H3I2H")
"""A local file header: signature, five shorts, crc, two sizes, lengths of name and extra field."""


def unpack(path: Path, folder: Path, max_bytes: int) -> Path:
    """Extracts the one adapter in the zip at `path` into `folder` and returns `folder`.

    Only the weights and the known text files beside them are taken; anything that tries to leave
    the folder makes the whole archive refused.

    Raises:
        InvalidAdapter: not a zip, several adapters, hostile names, or larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            _check_spans(path, archive, entries)
            files = [e for e in entries if not e.is_dir() and not e.filename.startswith(_MAC)]
            weights = _one_weight_file(files)
            home = PurePosixPath(weights.filename).parent
            folder.mkdir(parents=True, exist_ok=True)
            _copy(archive, weights, folder / PurePosixPath(weights.filename).name, max_bytes)
            for entry in files:
                name = PurePosixPath(entry.filename)
                if name.parent == home and name.name in WANTED:
                    _copy(archive, entry, folder / name.name, MAX_SMALL)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise _bad(f"The zip is damaged ({str(error)[:200]}). Create it again.", "zip") from error
    except (ValueError, struct.error, UnicodeError) as error:
        raise _bad("The zip is damaged. Create it again.", "zip") from error
    return folder


def member(path: Path, wanted: str, most: int) -> bytes | None:
    """The file named `wanted` that lies least deep in a zip, whose directory is checked as in
    `unpack`; at most `most` bytes are read. None if there is none.

    Raises:
        InvalidAdapter: not a zip, or one with names or sizes that no honest zip has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            _check_spans(path, archive, entries)
            named = [e for e in entries if PurePosixPath(e.filename).name == wanted]
            if not named:
                return None
            with archive.open(min(named, key=lambda e: e.filename.count("/"))) as file:
                return file.read(most)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise _bad(f"The zip is damaged ({str(error)[:200]}). Create it again.", "zip") from error
    except (ValueError, struct.error, UnicodeError) as error:
        raise _bad("The zip is damaged. Create it again.", "zip") from error


def is_pickle(path: Path) -> bool:
    """Whether a zip is what torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == "data.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        return False  # `unpack` says what is wrong


def _bad(message: str, refusal: Refusal) -> InvalidAdapter:
    return InvalidAdapter(message, refusal)


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > limits().zip_entries:
        raise _bad(f"The zip has {len(entries)} files; an adapter has a handful.", "zip-names")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename.rstrip("/")
        if not _plain(name) or entry.orig_filename != entry.filename or name.lower() in seen:
            raise _bad(
                f"The zip holds a file name that is not allowed: {name[:80]!r}. Zip the adapter's "
                "folder again, with that folder alone in it.",
                "zip-names",
            )
        seen.add(name.lower())
        if entry.flag_bits & 0x41:
            raise _bad("The zip is encrypted; upload it without a password.", "zip-kind")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad("The zip uses an unusual compression; use ordinary deflate.", "zip-kind")
        kind = (entry.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000, 0o040000):
            raise _bad("The zip holds a link or device; put the real files in it.", "zip-kind")
    _check_prefixes(seen, {e.filename.lower() for e in entries if not e.is_dir()})


def _plain(name: str) -> bool:
    """Whether a name is a relative path of ordinary parts, as every system reads it."""
    parts = name.split("/")
    odd = any(not part or part != part.strip() or part[-1] == "." for part in parts)
    return bool(name) and not odd and "\\" not in name and ":" not in name and name.isprintable()


def _check_prefixes(names: set[str], files: set[str]) -> None:
    """A file may not also be the folder of another."""
    for name in names:
        if any(str(parent) in files for parent in PurePosixPath(name).parents):
            raise _bad(f"In the zip, {name[:80]!r} lies inside a file.", "zip-names")


def _check_spans(path: Path, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    """Every entry has bytes of its own, and its local header says what the directory says."""
    end = archive.start_dir
    with path.open("rb") as file:
        for entry in sorted(entries, key=lambda e: e.header_offset, reverse=True):
            file.seek(entry.header_offset)
            found = _LOCAL.unpack(file.read(_LOCAL.size))
            signature, method, name_length, extra = found[0], found[3], found[9], found[10]
            name = file.read(name_length)
            if signature != b"PK\x03\x04" or method != entry.compress_type:
                raise _bad("The zip's directory does not match its files.", "zip-overlap")
            if name not in (entry.filename.encode(), entry.filename.encode("cp437", "replace")):
                raise _bad("The zip names a file differently in two places.", "zip-overlap")
            start = entry.header_offset + _LOCAL.size + name_length + extra
            if start + entry.compress_size > end:
                raise _bad("Files in the zip overlap, as in zip bombs.", "zip-overlap")
            end = entry.header_offset


def _one_weight_file(files: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The safetensors file, else the one pickle, of which `pickles` decides what becomes."""
    found = [entry for entry in files if entry.filename.lower().endswith(WEIGHTS)]
    found = found or [entry for entry in files if entry.filename.lower().endswith(SUFFIXES)]
    configs = [entry for entry in files if PurePosixPath(entry.filename).name == CONFIG]
    if len(found) != 1:
        raise _bad(
            f"The zip holds {len(found)} weight files; expected exactly one (.safetensors). Zip "
            "one adapter's folder at a time.",
            "zip-weights",
        )
    if len(configs) > 1:
        raise _bad(f"The zip holds {len(configs)} files {CONFIG}; expected one.", "zip-weights")
    return found[0]


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, cap: int) -> None:
    """Unpacks one file, counting what comes out; what the directory says of it is not believed."""
    written, ratio = 0, limits().zip_ratio
    with archive.open(entry) as source, target.open("wb") as out:
        while block := source.read(1 << 20):
            written += len(block)
            if written > cap:
                raise _bad(f"'{entry.filename[:80]}' is larger than {cap >> 20} MiB.", "too-large")
            if written > _SMALL and written > ratio * max(entry.compress_size, 1):
                raise _bad(
                    f"'{entry.filename[:80]}' unpacks to over {ratio:g} times its packed size, "
                    "which weights never do. Upload the file itself.",
                    "zip-ratio",
                )
            out.write(block)
    if written != entry.file_size:
        raise _bad(
            f"'{entry.filename[:80]}' is not as long as the zip says. Create the zip again.", "zip"
        )
