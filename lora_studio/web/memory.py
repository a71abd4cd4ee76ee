"""How much freed memory the C library may keep to itself."""

from __future__ import annotations

import ctypes
import logging
import os

log = logging.getLogger(__name__)

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
    try:
        glibc = ctypes.CDLL(None)
        glibc.gnu_get_libc_version  # noqa: B018 - only glibc has it; musl's mallopt does not exist
        return bool(glibc.mallopt(_M_ARENA_MAX, ARENAS))
    except (AttributeError, OSError, TypeError):
        log.debug("this C library has no mallopt")
        return False
