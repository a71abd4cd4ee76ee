"""Taking in an uploaded file: checked in the light worker, then kept by the gallery."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lora_studio.adapter import AdapterCard
from lora_studio.errors import InvalidAdapter, WorkerFailed
from lora_studio.formats import canonical
from lora_studio.gallery import Gallery
from lora_studio.retrieval.centroids import read_centroid
from lora_studio.settings import Settings
from lora_studio.studio.access import Access
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Event, Job

READ_SECONDS = 120.0
"""Time on the clock for reading one upload; `Limits.seconds` is that of the processor."""


def add_adapter(
    flow: Flow,
    settings: Settings,
    gallery: Gallery,
    path: str,
    card: Mapping[str, Any],
    actor: Actor,
    access: Access,
    bases: Sequence[str] | None = None,
    fallback: str = "",
    private: bool = False,
) -> Steps:
    """Yields progress; returns the entry with {report, existed, twins}.

    Args:
        bases: the base models an upload may be compared with and tried on; None for any.
        fallback: base model to take where neither file nor card names one and the weights do not
            tell it.
        private: whether only its owner sees it.
    """
    out = settings.scratch_dir / f"{uuid4().hex}.safetensors"
    drawn: Path | None = None
    allowance = access.allowance(actor)
    gallery.check_uploads(actor.sub, allowance)
    try:
        result = yield from _read(flow, _job(settings, path, out, card, fallback, bases))
        if fallback and not result["card"]["base_model"]:
            again = {**card, "base_model": fallback}
            result = yield from _read(flow, _job(settings, path, out, again, fallback, bases))
        drawn = Path(result["thumbnail"]) if result.get("thumbnail") else None
        tried = yield from _dry_run(flow, settings, result, out)
        adapter = canonical.read(out, AdapterCard.from_dict(result["card"]))
        if adapter.card.centroid:
            read_centroid(adapter.card.centroid)
        existed = gallery.has(gallery.id_for(adapter.id, actor.sub))
        entry = gallery.add(
            adapter,
            owner=actor.sub,
            visibility="private" if private else "public",
            review="reviewed" if actor.moderator else "unreviewed",
            allowance=allowance,
            tests=result["tests"],
            thumbnail=drawn.read_bytes() if drawn else b"",
            measures=result["measures"],
        )
    except InvalidAdapter as error:
        if allowance:
            gallery.count_refused(actor.sub, error.refusal)
        raise
    finally:
        out.unlink(missing_ok=True)
        if drawn:
            drawn.unlink(missing_ok=True)
    report = [*result["report"], *filter(None, [tried])]
    if existed:
        report.append("The very same weights were already here; nothing was added twice.")
    if entry.centroid and entry.described_by != "centroid" and not entry.samples:
        report.append(
            f"Its centroid is of embedder '{read_centroid(entry.centroid).embedder}', and this "
            f"studio searches with '{settings.embedder}'; so its card places it in the search."
        )
    alike = gallery.twins(entry.id, access.viewer(actor))
    report += [twin.sentence() for twin in alike]
    told = {"report": report, "existed": existed, "twins": [twin.to_dict() for twin in alike]}
    return {**access.told(entry.to_dict(), actor), **told}


def _read(flow: Flow, job: Job) -> Steps:
    """The job's result; a child that was killed over this file is the file's fault."""
    try:
        return (yield from flow.run(job))
    except WorkerFailed as error:
        raise InvalidAdapter(
            f"The file could not be read to its end. {error}", "resources"
        ) from error


def _dry_run(
    flow: Flow, settings: Settings, result: Mapping[str, Any], out: Path
) -> Generator[Event, None, str]:
    """Runs the base model with the adapter once, where it is at hand and idle; what was done, "" if
    the adapter was not even compared with it."""
    base = str(result["card"]["base_model"])
    if not result["fits"]:
        return ""
    lane = flow.worker.status()["model"]
    idle = lane["state"] not in ("busy", "down") and not lane["queued"]
    if not idle or lane.get("base") not in (None, base):
        return "It was not tried on its base model, which is not at hand just now."
    args = {"base": base, "device": settings.device, "path": str(out)}
    yield from flow.run(Job("dry_run", args, "model", deadline=READ_SECONDS))
    return f"{base} runs with it and gives finite numbers."


def _job(
    settings: Settings,
    path: str,
    out: Path,
    card: Mapping[str, Any],
    fallback: str,
    bases: Sequence[str] | None,
) -> Job:
    args = {
        "path": path,
        "out": str(out),
        "card": dict(card),
        "bases": None if bases is None else list(bases),
        "fallback": fallback,
        "max_bytes": settings.max_upload_bytes,
        "limits": settings.limits.to_dict(),
    }
    return Job("validate", args, "reader", deadline=READ_SECONDS)
