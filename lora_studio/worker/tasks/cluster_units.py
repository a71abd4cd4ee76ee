"""Task: cluster the rank units of some adapters and lay them out as the points of a map."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.errors import InvalidRequest
from lora_studio.rank_units import (
    SHARED_SEED,
    SHARED_SEED_WARNING,
    Clustering,
    UnitPool,
    cluster,
    joined,
    layout,
    pool_units,
    shared_seed,
)
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.blobs import Blobs
from lora_studio.worker.tasks.result_units import nobody, owners, with_result

MAX_LISTED = 60


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: sources [{id, weight}], blobs, module ("" = all), k (0 = largest source rank), basis,
    gauge, seed, out (.bin to write), result (None, or a composition to show among them: {id,
    shares as `composition.shares.packed` or none, of [ids of the adapters they are about]}).

    The file holds, one array after another: float32 x, y (0..1), energy (1 = the strongest source
    unit of the module); uint16 cluster, adapter, module, unit; then, of the units of the result
    alone, whose adapter is the number of sources, uint8 (units, sources) shares, 255 = all.
    Clusters are of the source units and numbered by falling energy within their module.
    """
    blobs = Blobs(args["blobs"], ctx)
    adapters = [blobs(s["id"]) for s in args["sources"]]
    made = args.get("result")
    result = blobs(made["id"]) if made else None
    owned = owners(adapters, result, args) if result else nobody
    weights = [float(s.get("weight", 1.0)) or 1.0 for s in args["sources"]]
    if not adapters:
        raise InvalidRequest("Choose at least one adapter to see its units.")
    every = sorted({name for a in adapters for name in a.factors}, key=_natural)
    if args.get("module") and args["module"] not in every:
        raise InvalidRequest(f"None of these adapters has the module '{args['module']}'.")
    chosen = [args["module"]] if args.get("module") else every
    tiles = _tiles(chosen)
    parts, rows, explained, largest = [], [], [], 1
    for position, name in enumerate(chosen):
        blobs.progress(position / len(chosen), f"module {position + 1} of {len(chosen)}")
        factors = [a.factors.get(name) for a in adapters]
        pool = pool_units(factors, weights, basis=args["basis"], gauge=args["gauge"])
        largest = max(largest, len(pool))
        k = min(int(args["k"]) or max(pool.ranks), len(pool))
        clustering = _by_energy(pool, cluster(pool, k, int(args["seed"])))
        rows += _table(pool, clustering, name, args["sources"])
        sources = len(pool)
        if result and name in result.factors:
            pool = with_result(pool, factors, weights, result.factors[name], args)
            clustering = joined(pool, clustering)
        places, share = layout(pool, clustering, sources)
        explained.append(share)
        points = _points(pool, clustering, places, tiles[position], every.index(name), sources)
        parts.append({**points, "shares": owned(name, pool.only(np.arange(sources, len(pool))))})
    _write(Path(args["out"]), parts)
    rows.sort(key=lambda row: -row["energy"])
    score = shared_seed(adapters, chosen)
    return {
        "n": sum(len(p["x"]) for p in parts),
        "modules": [
            {"name": n, "index": every.index(n), **t} for n, t in zip(chosen, tiles, strict=True)
        ],
        "all_modules": every,
        "clusters": rows[:MAX_LISTED],
        "k": max((int(p["cluster"].max()) + 1 for p in parts), default=1),
        "max_k": largest,
        "module": args.get("module", ""),
        "explained": float(np.mean(explained)),
        "result": made and {"id": made["id"], "n": sum(len(p["shares"]) for p in parts)},
        "shared_seed": {
            "score": score,
            "warning": SHARED_SEED_WARNING if score > SHARED_SEED else None,
        },
    }


def _by_energy(pool: UnitPool, clustering: Clustering) -> Clustering:
    energy = np.bincount(clustering.labels, weights=pool.energy**2, minlength=clustering.k)
    rank = np.empty(clustering.k, int)
    rank[np.argsort(-energy, kind="stable")] = np.arange(clustering.k)
    return Clustering(rank[clustering.labels], clustering.signs, clustering.inertia)


def _points(
    pool: UnitPool,
    clustering: Clustering,
    places: np.ndarray,
    tile: dict[str, float],
    module: int,
    sources: int,
) -> dict[str, np.ndarray]:
    inset = 0.08
    x = tile["x"] + tile["w"] * (inset + (1 - 2 * inset) * places[:, 0])
    y = tile["y"] + tile["h"] * (inset + (1 - 2 * inset) * places[:, 1])
    strongest = float(pool.energy[:sources].max()) or 1.0
    return {
        "x": x.astype("<f4"),
        "y": y.astype("<f4"),
        "energy": (pool.energy / strongest).astype("<f4"),
        "cluster": clustering.labels.astype("<u2"),
        "adapter": pool.owner.astype("<u2"),
        "module": np.full(len(pool), module, "<u2"),
        "unit": pool.index.astype("<u2"),
    }


def _table(
    pool: UnitPool, clustering: Clustering, module: str, sources: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    points = np.concatenate([pool.A, pool.B], axis=1) * clustering.signs[:, None]
    sizes = np.linalg.norm(points, axis=1)
    total = float((pool.energy**2).sum()) or 1.0
    rows = []
    for label in range(clustering.k):
        mine = clustering.labels == label
        mass = pool.mass[mine]
        mean_size = float(np.average(sizes[mine], weights=mass))
        centre = float(np.linalg.norm(np.average(points[mine], 0, mass)))
        owners = pool.owner[mine]
        rows.append(
            {
                "cluster": label,
                "module": module,
                "size": int(mine.sum()),
                "energy": float((pool.energy[mine] ** 2).sum()) / total,
                "adapters": {
                    sources[int(o)]["id"]: int((owners == o).sum()) for o in np.unique(owners)
                },
                "cohesion": centre / mean_size if mean_size else 0.0,
            }
        )
    return rows


def _tiles(names: list[str]) -> list[dict[str, float]]:
    """Where each module's own layout lies: a row per layer, a column per kind of module."""
    if len(names) == 1:
        return [{"x": 0.0, "y": 0.0, "w": 1.0, "h": 1.0}]
    leaves = list(dict.fromkeys(n.rpartition(".")[2] for n in names))
    stems = list(dict.fromkeys(_layer(n) for n in names))
    if len(leaves) * len(stems) == len(names):
        places = [(leaves.index(n.rpartition(".")[2]), stems.index(_layer(n))) for n in names]
        columns, rows = len(leaves), len(stems)
    else:
        columns = ceil(len(names) ** 0.5)
        rows = ceil(len(names) / columns)
        places = [(i % columns, i // columns) for i in range(len(names))]
    return [{"x": c / columns, "y": r / rows, "w": 1 / columns, "h": 1 / rows} for c, r in places]


def _layer(name: str) -> str:
    digits = [piece for piece in name.split(".") if piece.isdigit()]
    return ".".join(digits) or name


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(p)) if p.isdigit() else (1, p) for p in name.split(".")]


def _write(path: Path, parts: list[dict[str, np.ndarray]]) -> None:
    order = ("x", "y", "energy", "cluster", "adapter", "module", "unit", "shares")
    whole = [np.concatenate([p[name] for p in parts]).tobytes() for name in order]
    path.write_bytes(b"".join(whole))
