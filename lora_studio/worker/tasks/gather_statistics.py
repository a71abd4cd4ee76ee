"""Task: take the statistics of adapters that verdicts need, and keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_studio.formats import canonical
from lora_studio.gallery.statistics import Statistics
from lora_studio.rank_units.statistics import gather
from lora_studio.worker.job import JobContext


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: blobs [paths of stored files], root (folder of the statistics).

    Reads the files once, module by module, for whatever is not known yet. Returns {pairs: how many
    were taken}.
    """
    kept = Statistics(Path(args["root"]))
    paths = {Path(blob).stem: blob for blob in args["blobs"]}
    names = sorted(paths)
    profiles, _, missing = kept.load(names)
    place = {sha: i for i, sha in enumerate(names)}
    ctx.progress(0.0, "opening the adapters")

    def told(fraction: float) -> None:
        ctx.check()
        ctx.progress(fraction, f"comparing {len(names)} adapters, the first time")

    adapters = []
    for sha in names:
        ctx.check()
        adapters.append(canonical.read(paths[sha]))
    found, pairs = gather(
        adapters,
        {place[sha]: profile for sha, profile in profiles.items()},
        [(place[one], place[two]) for one, two in missing],
        told,
    )
    for i, profile in found.items():
        if names[i] not in profiles:
            kept.keep(profile.dump(), names[i])
    for (i, j), pair in pairs.items():
        kept.keep(pair.dump(), names[i], names[j])
    return {"pairs": len(pairs)}
