"""The worker of one machine: four lanes, each one child process of this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from lora_studio import scratch
from lora_studio.errors import InvalidRequest
from lora_studio.settings import Settings
from lora_studio.worker import sandbox
from lora_studio.worker.job import Job, JobHandle
from lora_studio.worker.job import Lane as LaneName
from lora_studio.worker.lane import Lane

CHILD = (sys.executable, "-m", "lora_studio.worker.child")
SECRETS = ("OAUTH_CLIENT_SECRET", "LORA_STUDIO_OIDC_CLIENT_SECRET")
"""Variables that children, which read what strangers send, are not given."""


class LocalWorker:
    """A light and a model lane, so that a search never waits behind a generation; one for verdicts,
    which wait for neither and never keep a search waiting; and one whose child reads one untrusted
    file and ends.

    Args:
        settings: data folder, device and default deadline.
        command: starts a child; the lane's name and its scratch folder are appended.
        lane_options: times given on to each `Lane`, for tests.
    """

    def __init__(
        self, settings: Settings, *, command: Sequence[str] = CHILD, **lane_options: float
    ) -> None:
        self.scratch = settings.scratch_dir
        scratch.remove_left_behind(self.scratch)
        temporary = self.scratch / "tmp"
        temporary.mkdir(parents=True)
        options = {"deadline": settings.job_deadline, **lane_options}
        self._lanes: dict[str, Lane] = {}
        for name in get_args(LaneName):
            folder = self.scratch / name
            folder.mkdir(parents=True, exist_ok=True)
            argv = [*command, name, str(folder)]
            once = name == "reader"
            self._lanes[name] = Lane(
                name, argv, _environment(name, temporary), once=once, **options
            )

    def start(self) -> None:
        """Starts the children; otherwise each starts with its first job."""
        for lane in self._lanes.values():
            lane.start()

    def submit(self, job: Job) -> JobHandle:
        """Queues a job in its lane."""
        if job.lane not in self._lanes:
            raise InvalidRequest(f"There is no lane '{job.lane}'; use {' or '.join(self._lanes)}.")
        scratch.sweep(self.scratch, "*/*")
        return self._lanes[job.lane].submit(job)

    def status(self) -> dict[str, Any]:
        """Lane -> state, job, queued, rss, pid; the model lane adds device, base,
        adapters_resident and gpu_memory once it has a model."""
        unknown = {"device": None, "base": None, "adapters_resident": 0, "gpu_memory": None}
        found = {name: lane.status() for name, lane in self._lanes.items()}
        return {**found, "model": {**unknown, **found["model"]}}

    def close(self) -> None:
        """Ends the children and removes their scratch files."""
        for lane in self._lanes.values():
            lane.close()
        scratch.remove(self.scratch)


def _environment(lane: str, temporary: Path) -> dict[str, str]:
    """This process's environment, with a share of the processors, the package on the path, and a
    place for temporary files that is cleared even if the child is killed."""
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    light = max(1, cores // 4)
    threads = str(max(1, cores - light) if lane == "model" else light)
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    defaults = {
        "OMP_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    found = {**defaults, **kept, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(temporary)}
    return sandbox.offline(found) if lane == "reader" else found
