"""The kinds of job a child will run, and the module of each; nothing else can be named."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from lora_studio.errors import NotFound
from lora_studio.worker.job import JobContext

Handler = Callable[[dict[str, Any], JobContext], dict[str, Any]]

TASKS: dict[str, str] = {
    kind: f"{__name__}.{kind}"
    for kind in (
        "cluster_units",
        "compose_adapter",
        "describe_base",
        "dry_run",
        "embed",
        "gather_statistics",
        "generate",
        "hear",
        "measure_cell",
        "plan_composition",
        "random_adapter",
        "read_recipe",
        "render",
        "score",
        "trace",
        "validate",
        "verdict",
    )
}
"""Kind of job -> module with a `run(args, ctx) -> dict`."""


def handler(kind: str) -> Handler:
    """The function that runs jobs of this kind; its module is imported on first use."""
    if kind not in TASKS:
        raise NotFound(f"There is no task called '{kind}'. There are: {', '.join(TASKS)}.")
    return importlib.import_module(TASKS[kind]).run
