"""What a process that reads untrusted bytes gives up before it reads any: memory, processor time,
large files, core dumps, new privileges and, where the system lets it, the network."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from lora_studio.limits import Limits

OPEN_FILES = 256
FILE_SHARE = 8
"""How many times larger than the upload the studio's own form of it may be (float8 LoHa)."""

_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET


def confine(limits: Limits) -> None:
    """Confines this process for good; to be called while it has one thread.

    A system that lacks one of these means (macOS, Windows) goes without it.
    """
    try:
        import resource
    except ImportError:
        return
    lowered = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits.seconds,
        resource.RLIMIT_NOFILE: OPEN_FILES,
    }
    for what, most in lowered.items():
        _lower(what, most)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.unshare(_NEW_USER | _NEW_NETWORK)


def allow_for(size: int, limits: Limits) -> None:
    """Caps memory, and the size of files written, by the size in bytes of what is to be read."""
    try:
        import resource
    except ImportError:
        return
    _lower(resource.RLIMIT_AS, limits.memory + FILE_SHARE * size)
    _lower(resource.RLIMIT_FSIZE, limits.memory + FILE_SHARE * size)


def _lower(what: int, most: int) -> None:
    import resource

    hard = resource.getrlimit(what)[1]
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))


def offline(env: dict[str, str]) -> dict[str, str]:
    """An environment without secrets, in which the Hub's libraries ask nothing of the network."""
    secret = ("TOKEN", "SECRET", "PASSWORD", "KEY", "COOKIE")
    kept = {k: v for k, v in env.items() if not any(word in k.upper() for word in secret)}
    kept.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    return {**kept, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_TOKEN_PATH": os.devnull}
