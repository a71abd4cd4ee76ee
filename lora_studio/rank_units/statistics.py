"""What is kept of adapters so that merges of them can be judged without reading them again: of each
the inner products of its units, of each two those between their units.

Inner products are all that a method needs which treats every direction alike; a few entries of each
update stand for what depends on single entries, such as signs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.rank_units.angles import Angles, angles

VERSION = "1"
ENTRIES = 256
"""Entries of each module's update that are kept."""


@dataclass(frozen=True)
class Shape:
    """One module of one adapter: its rank and the layer it belongs to.

    Args:
        layer: what must agree between adapters of one base model, such as "linear" or "conv 3x3".
    """

    rank: int
    d_in: int
    d_out: int
    component: str
    layer: str
    dora: bool = False


@dataclass(frozen=True, eq=False)
class Profile:
    """Statistics of one adapter, its scalings folded.

    Args:
        shapes: module -> its shape, in order of name.
        a, b: inner products of the rows of A, and of the columns of B: (rank, rank) of each module
            after another, flat float32.
        entries: (modules, ENTRIES) float32, the entries `places` of each update.
    """

    shapes: Mapping[str, Shape]
    a: np.ndarray
    b: np.ndarray
    entries: np.ndarray

    @cached_property
    def starts(self) -> dict[str, int]:
        """Module -> where its inner products begin."""
        ends = np.cumsum([0, *(s.rank**2 for s in self.shapes.values())]).tolist()
        return dict(zip(self.shapes, ends, strict=False))

    @cached_property
    def squares(self) -> dict[str, float]:
        """Module -> squared norm of its update."""
        starts = np.fromiter(self.starts.values(), int, len(self.starts))
        sums = np.add.reduceat((self.a * self.b).astype(np.float64), starts) if len(starts) else []
        return dict(zip(self.shapes, (float(x) for x in sums), strict=True))

    def block(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(rank, rank) inner products of A's rows and of B's columns."""
        rank, start = self.shapes[name].rank, self.starts[name]
        cut = slice(start, start + rank * rank)
        return self.a[cut].reshape(rank, rank), self.b[cut].reshape(rank, rank)

    def dump(self) -> bytes:
        """What `load_profile` reads."""
        about = {name: list(vars(shape).values()) for name, shape in self.shapes.items()}
        tensors = {"a": self.a, "b": self.b, "entries": self.entries}
        return save(tensors, {"version": VERSION, "shapes": json.dumps(about)})


@dataclass(frozen=True, eq=False)
class Pair:
    """Statistics of two adapters together, over the modules that fit each other.

    Args:
        starts: module -> where its inner products begin.
        a, b: inner products of the units of the first with those of the second: (rank of the first,
            rank of the second) of each module after another, flat float32.
        angles: (modules, 5) float32, see `angles.angles`.
    """

    starts: Mapping[str, int]
    ranks: Mapping[str, tuple[int, int]]
    a: np.ndarray
    b: np.ndarray
    angles: np.ndarray

    @cached_property
    def places(self) -> dict[str, int]:
        """Module -> its row of `angles`."""
        return {name: place for place, name in enumerate(self.starts)}

    def block(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(r, r') inner products of A's rows and of B's columns."""
        (one, two), start = self.ranks[name], self.starts[name]
        cut = slice(start, start + one * two)
        return self.a[cut].reshape(one, two), self.b[cut].reshape(one, two)

    def turned(self) -> Pair:
        """The same with the second adapter first."""
        blocks = [self.block(name) for name in self.starts]
        a, b = (_flat([block[side].T for block in blocks]) for side in (0, 1))
        ranks = {name: (two, one) for name, (one, two) in self.ranks.items()}
        return Pair(self.starts, ranks, a, b, self.angles[:, [0, 1, 3, 2, 4]])

    def dump(self) -> bytes:
        """What `load_pair` reads, beside the profiles of both."""
        return save({"a": self.a, "b": self.b, "angles": self.angles}, {"version": VERSION})


def load_profile(data: bytes) -> Profile | None:
    """A stored profile; None for what is damaged or of another version."""
    tensors = _tensors(data)
    if tensors is None:
        return None
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    shapes = {name: Shape(*row) for name, row in json.loads(about["shapes"]).items()}
    return Profile(shapes, tensors["a"], tensors["b"], tensors["entries"])


def load_pair(data: bytes, first: Profile, second: Profile) -> Pair | None:
    """A stored pair of these two adapters; None for what is damaged or of another version."""
    tensors = _tensors(data)
    return None if tensors is None else _pair(first, second, **tensors)


def _tensors(data: bytes) -> dict[str, np.ndarray] | None:
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError):
        return None
    return tensors if header.get("__metadata__", {}).get("version") == VERSION else None


def _pair(
    first: Profile, second: Profile, a: np.ndarray, b: np.ndarray, angles: np.ndarray
) -> Pair:
    ranks = {n: (first.shapes[n].rank, second.shapes[n].rank) for n in shared(first, second)}
    ends = np.cumsum([0, *(r * s for r, s in ranks.values())]).tolist()
    return Pair(dict(zip(ranks, ends, strict=False)), ranks, a, b, angles)


def shared(first: Profile, second: Profile) -> list[str]:
    """Modules both have and that are of one size, in order of name."""
    return [n for n in first.shapes if n in second.shapes and _fit(first, second, n)]


def _fit(first: Profile, second: Profile, name: str) -> bool:
    one, two = first.shapes[name], second.shapes[name]
    return (one.d_in, one.d_out, one.layer) == (two.d_in, two.d_out, two.layer)


def shape_of(module: LoraFactors) -> Shape:
    """A module's shape; a 1x1 convolution is a linear layer."""
    taps = tuple(module.kernel[1:]) if module.kernel else (1, 1)
    layer = module.kind if module.kind == "embedding" else "linear"
    if taps != (1, 1):
        layer = "conv " + "x".join(map(str, taps))
    dora = module.magnitude is not None
    return Shape(module.rank, module.d_in, module.d_out, module.component, layer, dora)


def places(name: str, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (ENTRIES,) of the entries kept of a module: the same for all adapters."""
    rng = np.random.default_rng(zlib.crc32(f"{name}\0{shape.d_out}\0{shape.d_in}".encode()))
    return rng.integers(shape.d_out, size=ENTRIES), rng.integers(shape.d_in, size=ENTRIES)


Told = Callable[[float], None]


def gather(
    adapters: Sequence[Adapter],
    known: Mapping[int, Profile] | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    told: Told = lambda fraction: None,
) -> tuple[dict[int, Profile], dict[tuple[int, int], Pair]]:
    """Profiles and pairs of adapters, by their places, in one pass over their modules.

    Args:
        known: profiles that need not be taken again.
        pairs: those that are wanted, smaller place first; all of them by default.
        told: called with the share done; may raise to stop.
    """
    known = dict(known or {})
    wanted = list(combinations(range(len(adapters)), 2) if pairs is None else pairs)
    fresh = [i for i in range(len(adapters)) if i not in known]
    asked = sorted({*fresh, *(i for pair in wanted for i in pair)})
    shapes = {i: {n: shape_of(m) for n, m in adapters[i].factors.items()} for i in asked}
    own: dict[int, list[Any]] = {i: [] for i in fresh}
    cross: dict[tuple[int, int], list[Any]] = {pair: [] for pair in wanted}
    new = _cover(wanted, fresh)
    names = sorted({name for i in asked for name in shapes[i]})
    for done, name in enumerate(names):
        told(done / len(names))
        modules = {i: adapters[i].factors[name].folded() for i in asked if name in shapes[i]}
        grams = _grams(modules, shapes, name, new)
        for i, rows in own.items():
            if i in modules:
                rows.append((*grams[i, i], _entries(name, shapes[i][name], modules[i])))
        for pair, rows in cross.items():
            if pair in grams:
                rows.append(grams[pair])
    for i, rows in own.items():
        a, b = (_flat([row[side] for row in rows]) for side in (0, 1))
        entries = np.array([row[2] for row in rows], np.float32).reshape(-1, ENTRIES)
        known[i] = Profile(shapes[i], a, b, entries)
    found: dict[tuple[int, int], Pair] = {}
    for (i, j), rows in cross.items():
        a, b = (_flat([row[side] for row in rows]) for side in (0, 1))
        bare = _pair(known[i], known[j], a, b, np.zeros((len(rows), 5), np.float32))
        measured = angles(_blocks(known[i], known[j], bare))
        found[i, j] = _pair(known[i], known[j], a, b, measured)
    told(1.0)
    return known, found


def _blocks(first: Profile, second: Profile, pair: Pair) -> list[Angles]:
    return [Angles(first.block(n), second.block(n), pair.block(n)) for n in pair.starts]


def _cover(pairs: Sequence[tuple[int, int]], fresh: Sequence[int]) -> set[int]:
    """Few adapters such that each pair, and each fresh adapter, has one of them."""
    chosen, left = set(fresh), list(pairs)
    while left := [pair for pair in left if not chosen & set(pair)]:
        places = [i for pair in left for i in pair]
        chosen.add(max(sorted(set(places)), key=places.count))
    return chosen


def _grams(
    modules: Mapping[int, LoraFactors],
    shapes: Mapping[int, Mapping[str, Shape]],
    name: str,
    new: set[int],
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """(i, j) -> inner products, i in `new` or j in `new`; only of those of one size."""
    found: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    sizes: dict[tuple[int, int, str], list[int]] = {}
    for i in modules:
        shape = shapes[i][name]
        sizes.setdefault((shape.d_in, shape.d_out, shape.layer), []).append(i)
    for members in sizes.values():
        ours = [i for i in members if i in new]
        if not ours:
            continue
        ends = {i: shapes[i][name].rank for i in members}
        columns, rows = _spans(members, ends), _spans(ours, ends)
        sides = []
        for stack in (
            {i: modules[i].A for i in members},
            {i: modules[i].B.T for i in members},
        ):
            whole = np.concatenate([stack[i] for i in members])
            mine = whole if ours == members else np.concatenate([stack[i] for i in ours])
            sides.append(mine @ whole.T)  # (units of ours, units of all)
        for i in ours:
            for j in members:
                a, b = (side[rows[i], columns[j]] for side in sides)
                found[i, j] = a, b
                found.setdefault((j, i), (a.T, b.T))
    return found


def _spans(members: Sequence[int], ranks: Mapping[int, int]) -> dict[int, slice]:
    ends = np.cumsum([0, *(ranks[i] for i in members)]).tolist()
    return {i: slice(ends[k], ends[k + 1]) for k, i in enumerate(members)}


def _entries(name: str, shape: Shape, module: LoraFactors) -> np.ndarray:
    rows, columns = places(name, shape)
    return np.einsum("kr,rk->k", module.B[rows], module.A[:, columns])


def _flat(blocks: Sequence[np.ndarray]) -> np.ndarray:
    if not blocks:
        return np.zeros(0, np.float32)
    return np.concatenate([np.ravel(block) for block in blocks]).astype(np.float32)
