"""Task: write a random adapter of another one's modules, ranks and norms, to compare with."""

from __future__ import annotations

from typing import Any

from lora_studio.composition.verdict import random_adapter
from lora_studio.formats import canonical
from lora_studio.worker.job import JobContext


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: like (path of an adapter in the studio's own form), seed, out (file to write).

    Returns {}.
    """
    ctx.progress(None, "drawing a random adapter")
    canonical.write(random_adapter(canonical.read(args["like"]), int(args["seed"])), args["out"])
    return {}
