"""Gallery: the grid of cards (an island over the JSON routes) and the upload."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.errors import InvalidRequest, LoraStudioError
from lora_studio.web.island import island
from lora_studio.web.jobs import State, state
from lora_studio.web.session import base_of, session_from

if TYPE_CHECKING:
    from lora_studio.web.app import Page

FILE_TYPES = [
    ".zip",
    ".safetensors",
    ".npz",
    ".bin",
    ".pt",
    ".ckpt",
    ".json",
    ".jsonl",
    ".md",
    ".yaml",
    ".yml",
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
]

NEVER_ADAPTERS = (".json", ".yaml", ".yml", ".png", ".jpg", ".jpeg", ".webp")
"""Endings of files that are part of an adapter at most."""


def gather(paths: list[str] | None, folder: Path) -> Path:
    """What an upload means: one archive or weight file, or loose files of one adapter folder."""
    files = [Path(path) for path in paths or []]
    if not files:
        raise InvalidRequest("Choose a PEFT zip, the files of an adapter folder, or .safetensors.")
    if len(files) == 1:
        return files[0]
    if len({file.name for file in files}) < len(files):
        raise InvalidRequest("Two files have the same name. Upload one adapter at a time.")
    home = folder / "upload"  # a name that does not become the adapter's title
    home.mkdir()
    for file in files:
        shutil.copyfile(file, home / file.name)
    return home


def carried(studio: Any, paths: list[str] | None) -> dict[str, Any]:
    """The composition that a dropped file carries, as {session, name}, so that it can be opened
    instead of being added; {why} where it is no adapter either; else {}."""
    if len(paths or []) != 1:
        return {}
    path = Path((paths or [])[0])
    try:
        found = studio.open_recipe(str(path)).result()
        return {"session": session_from(studio, found), "name": path.name}
    except LoraStudioError as error:
        return {"why": str(error)} if path.suffix.lower() in NEVER_ADAPTERS else {}


def build(page: Page) -> None:
    """The gallery tab."""
    island("gallery", elem_id="ls-gallery")
    with gr.Column(elem_id="ls-upload", elem_classes=["ls-panel"]):
        island("heading", {"title": "Add an adapter"})
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                files = gr.File(
                    label="Adapter file, zip, or the files of its folder",
                    file_count="multiple",
                    file_types=FILE_TYPES,
                    height=176,
                    elem_id="ls-upload-files",
                )
                offer = island("offer", elem_id="ls-upload-offer")
                button = gr.Button("Add to the gallery", variant="primary", elem_id="ls-upload-go")
            with gr.Column(scale=2, min_width=280):
                with gr.Row():
                    title = gr.Textbox(label="Title", placeholder="From the file", min_width=160)
                    licence = gr.Textbox(label="Licence", placeholder="apache-2.0", min_width=160)
                description = gr.Textbox(label="What it does", lines=2, max_lines=4)
                with gr.Row():
                    base = gr.Textbox(label="Base model", placeholder="As the file says")
                    contributor = gr.Textbox(label="Contributor")
                samples = gr.Textbox(
                    label="Sample inputs, one a line",
                    info="About 20 place the adapter in the search. Without them its card does.",
                    lines=3,
                    max_lines=8,
                )
                private = gr.Checkbox(
                    label="Only I may see and use it",
                    visible=not page.settings.hosting.local,
                    elem_id="ls-upload-private",
                )
        job = island("job", {"title": "Upload"}, ["stop"], elem_id="ls-upload-job")
        report = island("report", elem_id="ls-upload-report")

    def add_adapter(
        session: dict[str, Any],
        paths: list[str] | None,
        title: str,
        licence: str,
        description: str,
        base: str,
        contributor: str,
        samples: str,
        private: bool,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        card: dict[str, Any] = {
            "title": title.strip(),
            "licence": licence.strip(),
            "description": description.strip(),
            "contributor": contributor.strip(),
            "base_model": base.strip(),
            "samples": [line.strip() for line in samples.splitlines() if line.strip()],
        }
        card = {name: value for name, value in card.items() if value}
        with tempfile.TemporaryDirectory(dir=page.settings.uploads_dir) as folder:

            def submit() -> Any:
                path = gather(paths, Path(folder))
                shown = base_of(session, page.settings.base_model)
                bare = path.suffix in (".safetensors", ".npz")
                return page.seat(request).add_adapter(
                    str(path), card, fallback_base=shown if bare else "", private=bool(private)
                )

            for job_state, payload in page.jobs.stream(request, "upload", submit):
                done = (payload or {}).get("result")
                if done:
                    yield job_state, {"entry": done}, None, *[""] * len(fields)
                else:
                    yield job_state, {}, *[gr.skip()] * (1 + len(fields))

    def stop(request: gr.Request) -> State:
        page.jobs.stop(request.session_hash, "upload")
        return state("stopped")

    def look(paths: list[str] | None, request: gr.Request) -> dict[str, Any]:
        return carried(page.seat(request), paths)

    fields = [title, licence, description, base, contributor, samples]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    files.change(look, [files], [offer], trigger_mode="always_last", **quiet)
    adding = button.click(
        add_adapter,
        [page.session, files, *fields, private],
        [job, report, files, *fields],
        trigger_mode="once",
        **quiet,
    )
    job.stop(stop, None, [job], cancels=[adding], queue=False, **quiet)
