"""Adapters of a job, read from their blobs on first use, with cancellation between steps."""

from __future__ import annotations

from collections.abc import Mapping

from lora_studio.adapter import Adapter
from lora_studio.errors import NotFound
from lora_studio.formats import canonical
from lora_studio.worker.job import JobContext


class Blobs:
    """Looks adapters up by id; an instance is the `lookup` that `run_recipe` wants."""

    def __init__(self, paths: Mapping[str, str], ctx: JobContext) -> None:
        self._paths = paths
        self._ctx = ctx
        self._read: dict[str, Adapter] = {}

    def __call__(self, adapter_id: str) -> Adapter:
        self._ctx.check()
        if adapter_id not in self._paths:
            raise NotFound(f"The adapter {adapter_id[:12]} is not in the gallery any more.")
        if adapter_id not in self._read:
            self._read[adapter_id] = canonical.read(self._paths[adapter_id])
        return self._read[adapter_id]

    def progress(self, fraction: float, message: str) -> None:
        """Reports progress and lets the job be cancelled."""
        self._ctx.check()
        self._ctx.progress(fraction, message)
