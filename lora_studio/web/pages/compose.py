"""Compose: a basket or a task sentence becomes a recipe; dry run, compose, result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.errors import InvalidRequest
from lora_studio.web.island import island
from lora_studio.web.jobs import State, state
from lora_studio.web.session import base_of, recipe_of

if TYPE_CHECKING:
    from lora_studio.web.app import Page

EXAMPLES = [
    "turn the sentence into past tense",
    "say it politely",
    "write the noun phrase in French",
]
PICTURES = ["a neon outline", "a star", "painted in watercolour"]


def build(page: Page) -> None:
    """The compose tab."""
    default = page.settings.base_model
    with gr.Row(elem_id="ls-compose", equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes=["ls-panel"]):
            island("heading", {"text": "1", "title": "Adapters"})
            with gr.Row(elem_id="ls-task", equal_height=False):
                task = gr.Textbox(
                    label="Describe a task",
                    placeholder="What should the model be good at?",
                    scale=4,
                    min_width=200,
                    elem_id="ls-task-text",
                )
                find = gr.Button("Find adapters", scale=1, min_width=120, elem_id="ls-find")
            found = island(
                "found", {"examples": EXAMPLES, "pictures": PICTURES}, ["pick"], elem_id="ls-found"
            )
            island("rows", elem_id="ls-rows")
            island("opener", elem_id="ls-opener")
        with gr.Column(scale=4, min_width=320, elem_classes=["ls-panel"]):
            island("heading", {"text": "2", "title": "Method"})
            island("method", elem_id="ls-method")
            island("regions", elem_id="ls-regions")
        with gr.Column(scale=4, min_width=320, elem_classes=["ls-panel"]):
            island("heading", {"text": "3", "title": "Check and compose"})
            with gr.Row():
                dry = gr.Button("Dry run", elem_id="ls-dry", min_width=100)
                go = gr.Button("Compose", variant="primary", elem_id="ls-go", min_width=100)
            job = island("job", {"title": "Compose"}, ["stop"], elem_id="ls-compose-job")
            plan = island("plan", elem_id="ls-plan")
            result = island("result", elem_id="ls-result")
    with gr.Column(elem_classes=["ls-panel"]):
        island("verdict", elem_id="ls-verdict")
    with gr.Column(elem_classes=["ls-panel"]):
        island("history", elem_id="ls-history")

    def retrieve_adapters(
        session: dict[str, Any], task: str, request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        def submit() -> Any:
            if not task.strip():
                raise InvalidRequest("Describe the task in a sentence first.")
            return page.seat(request).retrieve_adapters(
                task.strip(), base_of(session, default), k=3
            )

        for job_state, payload in page.jobs.stream(request, "compose", submit):
            done = (payload or {}).get("result")
            if not done:
                yield job_state, gr.skip()
                continue
            found = {"task": task, "serial": job_state["serial"]}
            found |= {name: done[name] for name in ("hits", "embedder", "fits")}
            yield job_state, found

    def plan_composition(
        session: dict[str, Any], request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        def submit() -> Any:
            return page.seat(request).plan_composition(
                recipe_of(session, base_of(session, default))
            )

        for job_state, payload in page.jobs.stream(request, "compose", submit):
            done = (payload or {}).get("result")
            yield job_state, {"plan": done} if done else gr.skip()

    def compose_adapter(
        session: dict[str, Any], request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        draft, opened = session.get("draft") or {}, session.get("opened") or {}

        def submit() -> Any:
            recipe = recipe_of(session, base_of(session, default))
            return page.seat(request).compose_adapter(recipe, title=str(draft.get("title") or ""))

        for job_state, payload in page.jobs.stream(request, "compose", submit):
            done = (payload or {}).get("result")
            made = {"drafted": draft.get("method"), "parent": opened.get("recipe_id")}
            yield job_state, {"result": {**done, **made}} if done else gr.skip()

    def stop(request: gr.Request) -> State:
        page.jobs.stop(request.session_hash, "compose")
        return state("stopped")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    once: dict[str, Any] = {"trigger_mode": "once", **quiet}
    finding = gr.on(
        [find.click, task.submit], retrieve_adapters, [page.session, task], [job, found], **once
    )
    planning = dry.click(plan_composition, [page.session], [job, plan], **once)
    composing = go.click(compose_adapter, [page.session], [job, result], **once)
    job.stop(stop, None, [job], cancels=[finding, planning, composing], queue=False, **quiet)
    found.pick(None, [found], [task], js="(found) => found.picked", **quiet)
