"""The one page: header, five tabs over a shared session, status, and the public endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_studio.errors import LoraStudioError
from lora_studio.settings import Settings
from lora_studio.web import api
from lora_studio.web.identity import seat
from lora_studio.web.island import island
from lora_studio.web.jobs import Jobs, State, state
from lora_studio.web.pages import PAGES
from lora_studio.web.routes import MapFiles
from lora_studio.web.session import STORAGE_KEY, STORAGE_SECRET, session_from_recipe

STATUS_EVERY = 3.0  # seconds


@dataclass(frozen=True)
class Page:
    """What a page is built with.

    Args:
        studio: the Studio it talks to.
        settings: of that studio.
        jobs: running jobs of all visitors.
        maps: point files the page may fetch.
        session: hidden island with the visitor's basket, base, method and columns.
    """

    studio: Any
    settings: Settings
    jobs: Jobs
    maps: MapFiles
    session: gr.HTML

    def seat(self, request: gr.Request) -> Any:
        """The studio for whoever sent this request; handlers use no other."""
        return seat(self.studio, request)


def _status(studio: Any) -> dict[str, Any]:
    try:
        return {"status": studio.get_status()}
    except LoraStudioError as error:
        return {"error": str(error)}


def _base_choices(studio: Any) -> list[tuple[str, str]]:
    makes = {"text": "text", "image": "images"}
    bases = studio.list_base_models()
    return [(f"{base['title']} · {makes[base['modality']]}", base["id"]) for base in bases]


def _base_update(studio: Any) -> Any:
    return gr.update(choices=_base_choices(studio))


def _header(page: Page) -> tuple[gr.Dropdown, gr.HTML]:
    """Builds the line at the top; returns the base-model picker and the status chips."""
    studio = page.studio
    with gr.Row(elem_id="ls-header", equal_height=True):
        island("brand", elem_id="ls-brand")
        base = gr.Dropdown(
            choices=_base_choices(studio),
            value=page.settings.base_model,
            allow_custom_value=True,
            filterable=True,
            label="Base model: the demo, a local folder or a Hub id",
            show_label=False,
            container=False,
            elem_id="ls-base",
            min_width=200,
        )
        chips = island("chips", {}, elem_id="ls-chips")
        if not page.settings.hosting.local:
            island("person", elem_id="ls-person")
    job = island("job", {"title": "Base model"}, ["stop"], elem_id="ls-base-job")

    def check_base(name: str, request: gr.Request) -> Iterator[State]:
        running = page.jobs.stream(request, "base", lambda: page.seat(request).check_base(name))
        for job_state, payload in running:
            done = (payload or {}).get("result")
            yield job_state | ({"note": _loaded(done)} if done else {})

    def stop(request: gr.Request) -> State:
        page.jobs.stop(request.session_hash, "base")
        return state("stopped")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    base.change(None, [base], None, js="(base) => { window.loraStudio?.setBase(base); return []; }")
    checking = base.input(check_base, [base], [job], trigger_mode="multiple", **quiet)
    job.stop(stop, None, [job], cancels=[checking], queue=False, **quiet)
    page.session.base(None, [page.session], [base], js="(session) => session.base", **quiet)
    timer = gr.Timer(STATUS_EVERY)
    timer.tick(lambda: _status(studio), None, [chips], queue=False, **quiet)
    return base, chips


def _loaded(done: dict[str, Any]) -> str:
    parameters = done.get("parameters")
    size = f", {parameters / 1e6:,.1f} M parameters" if parameters else ""
    return f"Loaded on {done.get('device', 'the worker')}{size}."


def _restorer(page: Page) -> Callable[[Any, gr.Request], dict[str, Any]]:
    """Fills the session from the settings, the browser's store, and ?recipe=<id>, in this order."""

    def restore(kept: Any, request: gr.Request) -> dict[str, Any]:
        session = dict(kept) if isinstance(kept, dict) else {}
        session.setdefault("base", page.settings.base_model)
        session |= {"restored": True, "default_base": page.settings.base_model}
        recipe_id = request.query_params.get("recipe")
        if recipe_id:
            try:
                session |= session_from_recipe(page.seat(request), recipe_id)
            except LoraStudioError as error:
                session["notice"] = str(error)
        return session

    return restore


def build(studio: Any, settings: Settings, jobs: Jobs, maps: MapFiles) -> gr.Blocks:
    """The Blocks of the whole page, over an open studio."""
    with gr.Blocks(title="LoRA Studio", fill_width=True, analytics_enabled=False) as blocks:
        api.register(studio)  # first, so that the endpoints keep their plain names
        stored = gr.BrowserState(None, storage_key=STORAGE_KEY, secret=STORAGE_SECRET)
        session = island("session", {}, ["keep", "base"], elem_id="ls-session")
        page = Page(studio, settings, jobs, maps, session)
        base, chips = _header(page)
        with gr.Tabs(elem_id="ls-tabs"):
            for title, build_page in PAGES:
                with gr.Tab(title, id=title.lower(), elem_id=f"ls-page-{title.lower()}"):
                    build_page(page)
        island("basket", elem_id="ls-basket")
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        blocks.load(_restorer(page), [stored], [session], queue=False, **quiet)
        blocks.load(partial(_base_update, studio), None, [base], queue=False, **quiet)
        blocks.load(partial(_status, studio), None, [chips], queue=False, **quiet)
        session.keep(None, [session], [stored], js="(session) => session", **quiet)

        def stop_all(request: gr.Request) -> None:
            jobs.stop(request.session_hash)

        blocks.unload(stop_all)
    return blocks
