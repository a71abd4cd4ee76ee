"""How failures of the disk and the database become messages people can act on."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from lora_studio.errors import LoraStudioError, StorageFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_SQLITE_REFUSED = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_TRUNCATE,
}
_NO_ROOM = "The storage is full. Nothing was lost or half written: free some space and try again."
_NO_ROOM_OR_WORSE = (
    "The storage is full or failing. Nothing was lost or half written: "
    "free some space, or check the disk, and try again."
)
_FAILING = "The disk failed ({}). Nothing acknowledged was lost: check the disk, then try again."


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turns a full disk into StorageFull, a refused write or a failing disk into plain words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(_NO_ROOM) from error
        if error.errno in _REFUSED:
            raise LoraStudioError(
                f"The studio may not write to {error.filename or 'its data folder'}. "
                "Set LORA_STUDIO_DATA to a folder it may write to."
            ) from error
        if error.errno == errno.EIO:
            raise LoraStudioError(_FAILING.format(error.strerror)) from error
        raise
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull(_NO_ROOM) from error
        if code in _SQLITE_REFUSED:  # which does not say why
            raise StorageFull(_NO_ROOM_OR_WORSE) from error
        if code is not None and code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise LoraStudioError(
                "The gallery's database cannot be written. "
                "Set LORA_STUDIO_DATA to a folder the studio may write to."
            ) from error
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LoraStudioError(
                "Another process keeps the gallery's database busy. Try again in a moment."
            ) from error
        if code is not None and code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT):
            raise LoraStudioError(
                f"The gallery's database cannot be read or written ({cause}). Check the disk, "
                "and restore the gallery from a copy if it is damaged: lora-studio restore."
            ) from error
        raise


def maybe_committed(error: BaseException) -> bool:
    """Whether a transaction that failed so may be found committed after a crash.

    A commit whose sync failed has left its frames in the log; until others are written over them,
    they count when the log is read again. A full disk cut them short, so they never do.
    """
    return isinstance(error.__cause__, DBAPIError) and not isinstance(error, StorageFull)
