"""Where several updates get into each other's way, module by module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lora_studio.composition.verdict.joint import Joint


@dataclass(frozen=True)
class Clash:
    """One module that several adapters have.

    Args:
        inputs, outputs: overlap of the spaces they read, and write to: mean squared cosine of
            principal angles over pairs, 0..1; of whole adapters, whatever units are chosen.
        signs: share of pairs of entries with opposite signs, of 256 entries; unrelated ones: 0.5.
        cancelled: share of the entries' magnitude that is lost in their sum.
        energy: the module's share of the squared norm of all weighted updates.
        stake: `energy` times how much, at most 1, the others add on the inputs each one reads, pair
            by pair, beside what it does there itself.
    """

    inputs: float
    outputs: float
    signs: float
    cancelled: float
    energy: float
    stake: float


def clashes(joint: Joint, weights: Sequence[float]) -> dict[str, Clash]:
    """Module -> its clash, of those that two adapters or more have."""
    w = np.asarray(weights, np.float64)
    whole = float(w**2 @ np.diag(joint.products)) or 1.0
    rows = [{n: k for k, n in enumerate(profile.shapes)} for profile in joint.profiles]
    found: dict[str, Clash] = {}
    for name, members in joint.members.items():
        if len(members) < 2:
            continue
        strength = {m.owner: w[m.owner] * m.factor for m in members}
        pairs = list(combinations(strength, 2))
        found_by = (joint.pairs[pair] for pair in pairs)
        angles = np.array([pair.angles[pair.places[name]] for pair in found_by])
        own = float(w**2 @ np.diag(joint.inner[name]))
        others = sum(
            strength[i] ** 2 * float(row[2]) + strength[j] ** 2 * float(row[3])
            for (i, j), row in zip(pairs, angles, strict=True)
        )
        entries = np.stack(
            [s * joint.profiles[i].entries[rows[i][name]] for i, s in strength.items()]
        )
        signs, cancelled = _signs(entries)
        energy = own / whole
        stake = energy * min(float(others) / own, 1.0) if own > 0 else 0.0
        overlap = angles.mean(0)
        found[name] = Clash(float(overlap[0]), float(overlap[1]), signs, cancelled, energy, stake)
    return found


def _signs(entries: np.ndarray) -> tuple[float, float]:
    """Of (adapters, entries): share of opposite pairs, and share of magnitude that cancels."""
    up, down = (entries > 0).sum(0), (entries < 0).sum(0)
    both = up + down
    pairs = float((both * (both - 1) / 2).sum())
    magnitude = float(np.abs(entries).sum())
    left = float(np.abs(entries.sum(0)).sum())
    return (
        float((up * down).sum()) / pairs if pairs else 0.0,
        1 - left / magnitude if magnitude else 0.0,
    )


def told(found: dict[str, Clash]) -> dict[str, Any]:
    """The clashes and their mean (weighted by energy; what is at stake is summed), as JSON."""
    names = ("inputs", "outputs", "signs", "cancelled")
    energy = sum(clash.energy for clash in found.values()) or 1.0
    means = {
        n: round(sum(c.energy * getattr(c, n) for c in found.values()) / energy, 4) for n in names
    }
    modules = [
        {"module": name, **{key: round(value, 4) for key, value in vars(clash).items()}}
        for name, clash in found.items()
    ]
    stake = round(sum(clash.stake for clash in found.values()), 4)
    return {**means, "stake": stake, "modules": modules}
