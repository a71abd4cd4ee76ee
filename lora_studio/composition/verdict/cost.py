"""About how long a merge takes: reading, writing, and the work on numbers as long as the layers."""

from __future__ import annotations

from collections.abc import Mapping

from lora_studio.composition.verdict.joint import Joint
from lora_studio.lazy_factors import cores

DISK = 1.5e9
"""Bytes a second that are read or written, most of them from memory."""
PACE = 3e10
"""Multiply-adds a second of one core on long factors."""
ENTRY = 120
"""What choosing among the entries of a whole update costs for each of them, in multiply-adds."""
SMALL_SIDE = 512
"""Up to this side a whole update gets an exact SVD, see `merging.dense`."""


def seconds(
    joint: Joint, ranks: Mapping[str, int], tried: float, share: float, dense: bool
) -> float:
    """An estimate, in seconds on this machine.

    Args:
        ranks: module -> rank of the result.
        tried: seconds the try on stand-ins took, on this share of the modules.
    """
    read = written = work = 0.0
    for name, members in joint.members.items():
        shape, units = joint.shape(name), sum(m.rank for m in members)
        long = shape.d_in + shape.d_out
        read += 4 * units * long
        written += 4 * ranks.get(name, 0) * long
        if ranks.get(name, 0) != units:  # else the factors are put side by side
            work += 2 * units**2 * long
        if dense and len(members) > 1:
            small, whole = min(shape.d_in, shape.d_out), shape.d_in * shape.d_out
            columns = 20 * small if small <= SMALL_SIDE else 24 * (ranks.get(name, 0) + 8)
            work += whole * (units + ENTRY * len(members) + columns)
    hands = 1 if dense else cores()
    return (read + written) / DISK + (tried / max(share, 1e-9) + work / PACE) / hands
