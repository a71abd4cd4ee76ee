"""Small stand-ins for large adapters: the same inner products in as few dimensions as there are
units, so that a merge can be tried on them in milliseconds.

What treats all directions alike (it commutes with turning a module's inputs and outputs) makes of
the stand-ins exactly what it would make of the adapters, in other coordinates. What looks at single
entries does not; there the axes are turned at random, so that entries are spread as in a large
matrix, and what comes out is an estimate.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition.verdict.joint import Group, Joint

WORK = 2.4e7
"""Sum over tried modules of the cube of their units: about what a tenth of a second allows."""
NOTHING = 1e-7


@dataclass(frozen=True, eq=False)
class Core:
    """One module of all its adapters.

    Args:
        a: (R, q) stand-in for all rows of A; b: (R, q) for all columns of B.
    """

    group: Group
    place: int
    a: np.ndarray
    b: np.ndarray

    def factors(self, owner: int, component: str, turned: bool) -> LoraFactors:
        """The stand-in for one adapter's module."""
        k = self.group.owners.index(owner)
        cut = slice(self.group.starts[k], self.group.starts[k] + self.group.ranks[k])
        a, b = self.a[cut], self.b[cut]
        if turned:
            a, b = a @ _turn(a.shape[1], 1), b @ _turn(b.shape[1], 2)
        scaling = float(self.group.factors[self.place, k])
        a, b = (np.ascontiguousarray(x, np.float32) for x in (a, b.T))
        return LoraFactors(a, b, scaling, component)


def kind_of(name: str) -> str:
    """What kind of layer a module is: its name without numbers."""
    return re.sub(r"\d+", "#", name)


def sample(joint: Joint, work: float = WORK) -> list[str]:
    """Modules that are tried: all if the work allows, else of each kind one or more, evenly
    over the depth. The same for the same adapters."""
    cubes = {n: float(sum(m.rank for m in found)) ** 3 for n, found in joint.members.items()}
    if sum(cubes.values()) <= work:
        return list(cubes)
    kinds: dict[tuple[str, int], list[str]] = {}
    for name in sorted(cubes, key=_depth):
        kinds.setdefault((kind_of(name), int(cubes[name])), []).append(name)
    share = work / sum(cubes.values())
    chosen: list[str] = []
    for names in kinds.values():
        count = min(len(names), max(round(share * len(names)), 1))
        steps = (np.arange(count) + 0.5) * len(names) / count
        chosen += [names[int(step)] for step in steps]
    return sorted(chosen)


def _depth(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


def cores_of(joint: Joint, names: Sequence[str]) -> dict[str, Core]:
    """The stand-ins of these modules."""
    found: dict[str, Core] = {}
    for group in joint.groups(names):
        for place, name in enumerate(group.names):
            shape = joint.shape(name)
            a = coordinates(group.a[place], shape.d_in)
            b = coordinates(group.b[place], shape.d_out)
            found[name] = Core(group, place, a, b)
    return dict(sorted(found.items()))


def stand_ins(
    joint: Joint, cores: Mapping[str, Core], base: str, turned: bool
) -> tuple[list[Adapter], list[int]]:
    """The adapters that have any of these modules, and their places."""
    made, places = [], []
    for owner in range(joint.size):
        factors = {
            name: core.factors(owner, joint.shape(name).component, turned)
            for name, core in cores.items()
            if owner in core.group.owners
        }
        if factors:
            made.append(Adapter(factors, AdapterCard(base_model=base)))
            places.append(owner)
    return made, places


def coordinates(gram: np.ndarray, most: int) -> np.ndarray:
    """(R, q) points with these inner products (R, R), q <= most."""
    gram = gram.astype(np.float64)
    if len(gram) <= most:
        size = float(np.trace(gram)) / len(gram)
        try:
            return np.linalg.cholesky(gram + NOTHING * size * np.eye(len(gram)))
        except np.linalg.LinAlgError:
            pass  # so alike that rounding makes it indefinite
    values, vectors = np.linalg.eigh(gram)
    kept = slice(max(len(gram) - most, 0), None)
    return vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))


def _turn(size: int, seed: int) -> np.ndarray:
    """(size, size) a random rotation, the same each time."""
    rng = np.random.default_rng([size, seed, zlib.crc32(b"axes")])
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))
