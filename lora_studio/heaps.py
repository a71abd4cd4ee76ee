"""How much freed memory the C library keeps to itself: glibc, unless told, more by the hour."""

from __future__ import annotations

import ctypes
import os
from typing import Any

ARENAS = 2
"""Heaps that threads share. glibc makes up to eight for each core, and each keeps the most that was
ever needed at once in it: a studio with forty threads grows for hours by heaps that are empty."""

_M_ARENA_MAX = -8  # malloc.h of glibc


def share_arenas() -> bool:
    """Caps the number of glibc's heaps, before threads begin; whether it was done.

    Other C libraries have nothing of the kind, and MALLOC_ARENA_MAX set by the operator stands.
    """
    if os.environ.get("MALLOC_ARENA_MAX"):
        return False
    glibc = _glibc()
    return bool(glibc and glibc.mallopt(_M_ARENA_MAX, ARENAS))


def give_back() -> bool:
    """Hands freed memory back to the system; whether there was any. Takes milliseconds."""
    glibc = _glibc()
    return bool(glibc and glibc.malloc_trim(0))


def _glibc() -> Any:
    """The C library of this process if it is glibc, else None."""
    try:
        found = ctypes.CDLL(None)
        return found if hasattr(found, "gnu_get_libc_version") else None
    except (OSError, TypeError):  # Windows has no such handle
        return None
