"""What is measured of an adapter's weights for its report card, through the small factors only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.rank_units.sketch import pack, sketch
from lora_studio.rank_units.standouts import standouts

DEAD = 1e-4
"""A rank-one unit this small beside the largest of its module does nothing that can be noticed."""


def measure(adapter: Adapter, file_ranks: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Figures of the report card, as plain JSON.

    Args:
        adapter: unfolded, if its alphas are to be told.
        file_ranks: by which rank the file's alpha was divided, of each module that has an alpha;
            without it no alphas are told.

    Returns:
        ranks: [[rank, modules]] ascending; kinds: {"linear": modules}; layers: {"q_proj": modules};
        norm and effective_rank: [least, median, most] over modules; units, zero_units, dead_units:
        counts of rank-one terms; alpha: [least, median, most] and alpha_is_rank, if they are told;
        weights: sha256 of the tensors without the base's name; sketch: see `rank_units.sketch`;
        labels: what stands out, in sentences, see `rank_units.standouts`.
    """
    modules = adapter.factors
    folded = adapter.folded()
    energies = [_unit_norms(module) for module in folded.factors.values()]
    norms = {name: module.norm() for name, module in modules.items()}
    ranks = {n: effective_rank(m) for n, m in folded.factors.items() if m.A.any() and m.B.any()}
    told: dict[str, Any] = {
        "ranks": [[r, n] for r, n in sorted(Counter(adapter.ranks.values()).items())],
        "kinds": dict(Counter(module.kind for module in modules.values()).most_common()),
        "layers": dict(Counter(_leaf(name) for name in modules).most_common(24)),
        "norm": _spread(norms.values()),
        "effective_rank": _spread(ranks.values()),
        "units": sum(len(units) for units in energies),
        "zero_units": sum(int(np.sum(units == 0)) for units in energies),
        "dead_units": sum(_dead(units) for units in energies),
        "weights": weights_hash(folded),
        "sketch": pack(sketch(folded)),
        "labels": standouts(norms, ranks),
    }
    if file_ranks:
        pairs = [(modules[name].scaling * rank, rank) for name, rank in file_ranks.items()]
        told["alpha"] = _spread(alpha for alpha, _ in pairs)
        told["alpha_is_rank"] = all(abs(alpha - rank) < 1e-4 * rank for alpha, rank in pairs)
    return told


def effective_rank(module: LoraFactors) -> float:
    """Participation ratio of the squared singular values, (sum s^2)^2 / sum s^4, in [1, rank]: how
    many equal directions would spread the update as widely.

    Both sums are traces of the (r, r) product of the factors' Gram matrices.
    """
    a, b = module.A.astype(np.float64), module.B.astype(np.float64)
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    product = (b.T @ b) @ (a @ a.T)  # (r, r)
    fourth = float(np.sum(product * product.T))
    return float(np.trace(product)) ** 2 / fourth if fourth > 0 else 0.0


def weights_hash(adapter: Adapter) -> str:
    """sha256 of the folded tensors and their names; unlike `Adapter.id` without the base."""
    digest = hashlib.sha256()
    for name, module in adapter.folded().factors.items():
        digest.update(f"\0{name}\0{module.A.shape}{module.B.shape}".encode())
        for tensor in (module.A, module.B, module.magnitude):
            if tensor is not None:
                digest.update(np.ascontiguousarray(tensor, dtype="<f4").tobytes())
    return digest.hexdigest()


def sentences(measures: Mapping[str, Any]) -> list[str]:
    """What of the figures a person should read when an adapter has just come in."""
    said: list[str] = []
    if measures.get("alpha"):
        least, median, most = measures["alpha"]
        where = f"is {median:g}" if least == most else f"is {least:g} to {most:g}"
        equal = ", equal to the rank" if measures["alpha_is_rank"] else ""
        said.append(f"Alpha {where}{equal}.")
    if measures["effective_rank"]:
        _, median, most = measures["effective_rank"]
        said.append(
            f"A module's update spreads over {median:.1f} directions (the median; {most:.1f} at "
            "most)."
        )
    lost = measures["zero_units"] + measures["dead_units"]
    if lost:
        said.append(
            f"{lost:,} of {measures['units']:,} rank-one units do nothing: "
            f"{measures['zero_units']:,} are zero, {measures['dead_units']:,} nearly so."
        )
    return [*said, *measures.get("labels", ())]


def _unit_norms(module: LoraFactors) -> np.ndarray:
    """(r,) norm of each rank-one term."""
    a, b = module.A.astype(np.float64), module.B.astype(np.float64)
    return np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=0)


def _dead(units: np.ndarray) -> int:
    return int(np.sum((units > 0) & (units < DEAD * units.max(initial=0.0))))


def _spread(values: Iterable[float]) -> list[float]:
    """[least, median, most] to six digits, [] of nothing."""
    found = np.nan_to_num(np.array(list(values), np.float64))
    if not len(found):
        return []
    return [float(f"{x:.6g}") for x in (found.min(), np.median(found), found.max())]


def _leaf(name: str) -> str:
    named = [part for part in name.split(".") if not part.isdigit()]
    return named[-1] if named else name
